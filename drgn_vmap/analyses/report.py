# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Report
------

Cuts down what there is to what fits on a page, however many areas there are.
"""

from dataclasses import replace
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from .._numpy import Array, U64Array, np
from ..model.areas import Area, Snapshot, State
from ..model.blocks import Blocks, PageState
from ..model.pictures import CELLS_A_ROW, BlockMaps, Stretch
from .blocks import block_totals, describe_blocks, page_states
from .describe import describe
from .intervals import bytes_below
from .kinds import kind_masks

__all__ = ("CELL_KINDS", "largest_rows", "map_blocks", "stretches")

_STRETCHES = 16
_CELLS = 1024
"""Cells of a stretch, at most."""
_ENLARGED = 4
"""Stretches that have parts, those with most areas, which bounds the size."""
_BLOCKS = 40
_NAMED = 24
"""Areas of a stretch, or of an enlarged row, that are named in the drawing."""
_SMALL_GAP = 1 << 20
"""A gap of less bytes is drawn, not cut out."""

_Describe = Callable[[Array], Iterable[Area]]

CELL_KINDS = (
    "vmalloc",
    "vmap",
    "ioremap",
    "vm_map_ram",
    "vmap_block",
    "other",
    "lazy",
    "pool",
)
"""What a cell can hold."""


def largest_rows(snapshot: Snapshot, limit: int) -> Array:
    """Return the rows of the largest busy areas."""
    areas = snapshot.areas
    rows = np.flatnonzero(areas.state == State.BUSY)
    size = (areas.end - areas.start)[rows].astype(np.float64)
    found: Array = rows[np.lexsort((areas.start[rows], -size))][:limit]
    return found


def map_blocks(blocks: Blocks) -> BlockMaps:
    """Return the blocks that strand most, with their pages."""
    dirty = blocks.table.dirty.astype(np.int64)
    rows = np.argsort(-dirty, kind="stable")[:_BLOCKS]
    states = page_states(blocks, rows).tolist()
    return BlockMaps(
        tuple(describe_blocks(blocks, rows)),
        tuple(tuple(PageState(state) for state in row) for row in states),
        block_totals(blocks),
    )


def stretches(
    snapshot: Snapshot, describe_rows: Optional[_Describe] = None
) -> Tuple[Stretch, ...]:
    """
    Cut the address space at its largest gaps, and what is between into cells.

    :param describe_rows: Says of rows of ``snapshot.areas`` what they are.
    """
    by_rows = describe_rows or (lambda rows: describe(snapshot, rows))
    areas = snapshot.areas
    rows = np.flatnonzero((areas.state != State.FREE) & (areas.start < areas.end))
    rows = rows[np.argsort(areas.start[rows], kind="stable")]
    if not len(rows):
        return ()
    reach = np.maximum.accumulate(areas.end[rows])
    start = areas.start[rows]
    gaps = start[1:] - np.minimum(reach[:-1], start[1:])
    widest = np.argsort(-gaps.astype(np.float64), kind="stable")[: _STRETCHES - 1]
    cuts = np.sort(widest[gaps[widest] >= _SMALL_GAP]) + 1
    masks = _class_masks(snapshot)
    pieces = np.split(rows, cuts)
    found = [_stretch(snapshot, piece, masks) for piece in pieces]
    fullest = sorted(range(len(found)), key=lambda at: -found[at].areas)
    for at in fullest[:_ENLARGED]:
        found[at] = _enlarged(snapshot, pieces[at], masks, found[at], by_rows)
    return tuple(
        _with_names(snapshot, piece, one, by_rows) for piece, one in zip(pieces, found)
    )


def _with_names(
    snapshot: Snapshot, rows: Array, stretch: Stretch, describe_rows: _Describe
) -> Stretch:
    """Name the largest areas, as far as they can be seen."""
    areas = snapshot.areas
    size = areas.end[rows] - areas.start[rows]
    seen = rows[size >= np.uint64(stretch.cell_bytes // 2)]
    size = (areas.end[seen] - areas.start[seen]).astype(np.float64)
    largest = np.sort(seen[np.argsort(-size, kind="stable")[:_NAMED]])
    return replace(stretch, named=tuple(describe_rows(largest)))


def _class_masks(snapshot: Snapshot) -> List[Array]:
    """Return which areas each of CELL_KINDS holds; none is in two of them."""
    masks, areas = kind_masks(snapshot), snapshot.areas
    by_state = {
        "lazy": (areas.state == State.LAZY) | (areas.state == State.PURGING),
        "pool": areas.state == State.POOL,
        "other": areas.state == State.BUSY,
    }
    taken = np.zeros(len(areas), bool)
    found: Dict[str, Array] = {}
    for kind in (*(kind for kind in CELL_KINDS if kind != "other"), "other"):
        mask = by_state.get(kind, masks.get(kind))
        assert mask is not None
        found[kind] = mask & ~taken
        taken |= found[kind]
    return [found[kind] for kind in CELL_KINDS]


def _stretch(snapshot: Snapshot, rows: Array, masks: List[Array]) -> Stretch:
    areas = snapshot.areas
    start, end = int(areas.start[rows[0]]), int(areas.end[rows].max())
    return _cells(snapshot, rows, masks, start, end)


def _cells(
    snapshot: Snapshot, rows: Array, masks: List[Array], start: int, end: int
) -> Stretch:
    """Cut from start to end into cells; the areas may reach beyond."""
    cell = snapshot.kernel.page_size
    while (end - start) > _CELLS * cell:
        cell *= 2
    count = -(-(end - start) // cell)
    # Past the last address there is no edge.
    edges = np.array(
        [min(start + at * cell, end) for at in range(count + 1)], np.uint64
    )
    held = np.stack([_held(snapshot, rows[mask[rows]], edges) for mask in masks])
    most, total = held.argmax(axis=0), held.sum(axis=0)
    return Stretch(
        start=start,
        end=end,
        areas=len(rows),
        bytes=int(total.sum()),
        cell_bytes=cell,
        cells=tuple(
            CELL_KINDS[kind] if sum_ else ""
            for kind, sum_ in zip(most.tolist(), total.tolist())
        ),
        full=tuple((total * 2 > edges[1:] - edges[:-1]).tolist()),
    )


def _enlarged(
    snapshot: Snapshot,
    rows: Array,
    masks: List[Array],
    stretch: Stretch,
    describe_rows: _Describe,
) -> Stretch:
    """Return a stretch with a part for each row that holds something."""
    if len(rows) == 1 or stretch.cell_bytes == snapshot.kernel.page_size:
        return stretch
    areas, step = snapshot.areas, CELLS_A_ROW * stretch.cell_bytes
    parts = []
    for start in range(stretch.start, stretch.end, step):
        end = min(start + step, stretch.end)
        inside = areas.end[rows] > np.uint64(start)
        inside &= areas.start[rows] < np.uint64(end)
        if inside.any():
            part = _cells(snapshot, rows[inside], masks, start, end)
            parts.append(_with_names(snapshot, rows[inside], part, describe_rows))
    return replace(stretch, parts=tuple(parts))


def _held(snapshot: Snapshot, rows: Array, edges: U64Array) -> U64Array:
    """Return how many bytes of each cell these areas, sorted by start, hold."""
    areas = snapshot.areas
    below = bytes_below(areas.start[rows], areas.end[rows], edges)
    return below[1:] - np.minimum(below[:-1], below[1:])
