# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Pictures
--------

Overviews: on one screen, and as one HTML file.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

from .areas import Area, Kernel, Problem, Snapshot
from .blocks import Block, BlockTotals, PageState
from .inspection import Check
from .series import SeriesVerdict, Verification
from .space import Gaps
from .sums import Reconciliation, Top

__all__ = (
    "Overview",
    "CELLS_A_ROW",
    "Stretch",
    "BlockMaps",
    "Report",
)


@dataclass(frozen=True)
class Overview:
    """A kernel's vmalloc state, summed up."""

    snapshot: Snapshot
    """With areas of all states."""
    gaps: Gaps
    top: Top
    """By caller."""
    pages: Reconciliation
    blocks: BlockTotals
    series: SeriesVerdict
    modules: Optional[Gaps] = None
    """Where modules go; None if that is vmalloc space, or not known."""


CELLS_A_ROW = 128
"""Cells that are drawn side by side; each row may have a part of its own."""


@dataclass(frozen=True)
class Stretch:
    """Areas with no large gap between them, cut into cells of equal size."""

    start: int
    end: int
    areas: int
    bytes: int
    """Of these areas."""
    cell_bytes: int
    cells: Tuple[str, ...]
    """What holds most of each cell: a kind, a state, or nothing if all is free."""
    full: Tuple[bool, ...]
    """Whether more than half of each cell is held."""
    named: Tuple[Area, ...] = ()
    """The largest of its areas."""
    parts: Tuple["Stretch", ...] = ()
    """Its rows with smaller cells, if there is more to see in them."""


@dataclass(frozen=True)
class BlockMaps:
    """Some blocks and what their pages are."""

    shown: Tuple[Block, ...]
    states: Tuple[Tuple[PageState, ...], ...]
    totals: BlockTotals


@dataclass(frozen=True)
class Report:
    """What one file tells about a kernel; what is not known is None."""

    source: str
    """Where it is from."""
    kernel: Optional[Kernel]
    warnings: Tuple[str, ...]
    gaps: Optional[Gaps]
    pages: Optional[Reconciliation]
    tops: Tuple[Top, ...]
    stretches: Tuple[Stretch, ...]
    """Empty if addresses are not known."""
    largest: Tuple[Area, ...]
    blocks: Optional[BlockMaps]
    checks: Optional[Tuple[Check, ...]]
    series: Optional[Verification]
    problems: Tuple[Problem, ...]
    made: str = ""
    """When, and by what."""
    host: Optional[str] = None
    crashed: Optional[str] = None
    """When."""
