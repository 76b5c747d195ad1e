# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Tables
------

Columns for people, and how text fits a terminal.
"""

import re
import textwrap
from typing import List, Optional, Sequence

__all__ = (
    "SEPARATOR",
    "columns_that_fit",
    "cut",
    "folded",
    "left_out",
    "plain_table",
    "width_of",
)

SEPARATOR = 2
"""Characters between columns."""
_HEADING_PADDING = 2
"""What tabulate keeps free around a heading."""
_ENOUGH = 26
"""Of the last column so much should be seen; a longer text is cut."""


def plain_table(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str],
    align: Sequence[str],
    width: Optional[int] = None,
    spare: Sequence[str] = (),
) -> str:
    """
    Return a table with a line of headings, without rules.

    :param align: ``left`` or ``right`` for each column.
    :param width: Characters that a line may have.
    :param spare: Headings of what is left out for that, one after the other; a last
        line says so. If nothing more can be, lines are cut.
    """
    # Not at the top of the file: importing it takes 25 ms, which is much for those
    # who print no table.
    from tabulate import tabulate

    columns = columns_that_fit(rows, headers, width, spare)
    table = tabulate(
        [[row[column] for column in columns] for row in rows],
        [headers[column] for column in columns],
        "plain",
        disable_numparse=True,
        # Before 0.10, it takes no alignment of columns without rows.
        colalign=[align[column] for column in columns] if rows else None,
    )
    if width is None:
        return table
    lines = [cut(line, width) for line in table.splitlines()]
    return "\n".join([*lines, *left_out(headers, columns)])


def left_out(headers: Sequence[str], columns: Sequence[int]) -> List[str]:
    """Return the line that says which columns a table is without; none if it has all."""
    names = [name for at, name in enumerate(headers) if at not in columns]
    what = "not shown on so narrow a terminal"
    return [f"{what}: {', '.join(names)}"] if names else []


def columns_that_fit(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str],
    width: Optional[int],
    spare: Sequence[str],
) -> List[int]:
    """Return which columns of :func:`plain_table` to show, with the same parameters."""
    columns = list(range(len(headers)))
    if width is None:
        return columns
    widths = [
        width_of(heading, [row[at] for row in rows])
        for at, heading in enumerate(headers)
    ]
    widths[-1] = min(widths[-1], _ENOUGH)
    for heading in spare:
        if sum(widths[at] + SEPARATOR for at in columns) - SEPARATOR <= width:
            break
        if heading in headers:
            columns.remove(headers.index(heading))
    return columns


def width_of(heading: str, cells: Sequence[str]) -> int:
    """Return how many characters a column takes."""
    return max(len(heading) + _HEADING_PADDING, *map(len, cells), 0)


def cut(line: str, width: Optional[int]) -> str:
    """Return a line with no more than so many characters, if that is said."""
    if width is None or len(line) <= width:
        return line
    return f"{line[: width - 1]}…"


def folded(text: str, width: int) -> str:
    """
    Return text without lines of more than so many characters.

    What is left of a long line goes on below the column that the line ended with.
    """
    lines = text.splitlines(keepends=True)
    return "".join(
        line if len(line.rstrip("\n")) <= width else _fold(line, width)
        for line in lines
    )


def _fold(line: str, width: int) -> str:
    column = re.match(r".*\S\s{2,}(?=\S)", line[: width // 2])
    margin = len(line) - len(line.lstrip())
    indent = " " * (column.end() if column else margin + 2)
    parts = textwrap.wrap(
        line.rstrip("\n"),
        width,
        subsequent_indent=indent,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    return "".join(f"{part}\n" for part in parts)
