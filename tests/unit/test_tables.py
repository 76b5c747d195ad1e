# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Tables and long lines on terminals
----------------------------------

What fits, what is left out first, and where a long line goes on.
"""

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmap.render.tables import folded, plain_table

HEADERS = ("START", "FLAGS", "PAGES", "CALLER")
ROWS = [
    ["0xffffd40800000000", "0x402", "12", "alloc_large_system_hash+0x197/0x27c [m]"],
    ["0xffffd40800005000", "0x2", "1", "short+0x0/0x1"],
]
ALIGN = ("left", "left", "right", "left")
SPARE = ("FLAGS", "PAGES")


def test_no_terminal() -> None:
    """All of it, whatever the length."""
    text = plain_table(ROWS, HEADERS, ALIGN, None, SPARE)
    assert all(heading in text for heading in HEADERS)
    assert all(cell in text for row in ROWS for cell in row)


@pytest.mark.parametrize("width", [None, 90])
def test_no_rows(width: Optional[int]) -> None:
    """There are headings all the same."""
    text = plain_table([], HEADERS, ALIGN, width, SPARE)
    assert text.split() == list(HEADERS)


@pytest.mark.parametrize(
    "width, left_out", [(90, ""), (64, ""), (60, "FLAGS"), (50, "FLAGS, PAGES")]
)
def test_columns_make_room(width: int, left_out: str) -> None:
    """One after the other goes, until much of the caller can be seen."""
    text = plain_table(ROWS, HEADERS, ALIGN, width, SPARE)
    assert "alloc_large_system_hash+0" in text
    note = f"not shown on so narrow a terminal: {left_out}"
    assert (note in text) == bool(left_out)
    assert all(len(line) <= width or line == note for line in text.splitlines())


def test_where_a_line_goes_on() -> None:
    """Below the text of its last column; below the margin if it has none."""
    assert folded("name   some words to fold here\n", 20) == (
        "name   some words to\n       fold here\n"
    )
    assert folded("words that are too many\n", 12) == "words that\n  are too\n  many\n"


@given(st.lists(st.text("ab -", max_size=90)), st.integers(20, 100))
def test_nothing_is_lost(lines: "list[str]", width: int) -> None:
    """Each word is there, in its order, and no line is too long."""
    text = "".join(f"{line}\n" for line in lines)
    found = folded(text, width)
    assert max(map(len, found.splitlines()), default=0) <= width
    assert "".join(found.split()) == "".join(text.split())
