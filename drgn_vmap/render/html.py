# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
HTML
----

Elements whose text cannot be anything but text: whatever is not made by
:func:`element` is escaped.
"""

from html import escape
from typing import Iterable, Sequence, Union

from .escape import bounded

__all__ = ("Html", "element", "table")


class Html(str):
    """Markup that is already escaped."""


Content = Union[Html, str, int]


def element(name: str, *content: Content, **attributes: object) -> Html:
    """
    Return an element.

    :param content: Elements; text and numbers, which are escaped.
    :param attributes: A leading underscore is left out, any other is a dash.
    """
    words = "".join(
        f' {key.strip("_").replace("_", "-")}="{_markup(value)}"'
        for key, value in attributes.items()
    )
    inside = "".join(map(_markup, content))
    return Html(f"<{name}{words}>{inside}</{name}>")


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Content]], numbers: int = 0
) -> Html:
    """
    Return a table.

    :param numbers: How many of the first columns hold numbers.
    """

    def cells(name: str, row: Sequence[Content]) -> Html:
        return element(
            "tr",
            *(
                element(name, one, _class="n" if at < numbers else "t")
                for at, one in enumerate(row)
            ),
        )

    body = "\n".join(cells("td", row) for row in rows)
    head = element("thead", cells("th", headers))
    return element("table", head, Html(f"<tbody>\n{body}\n</tbody>"))


def _markup(value: object) -> str:
    return value if isinstance(value, Html) else _text(str(value))


def _text(text: str) -> str:
    """Return text that can stand in an element or between the quotes of a value."""
    return escape(bounded(text))
