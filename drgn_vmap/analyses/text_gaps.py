# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a text leaves free
-----------------------

/proc/vmallocinfo does not list what is free, but if its addresses are real, that is
what lies between them.
"""

from dataclasses import fields, replace
from typing import Optional, Tuple

from .._numpy import np
from ..model.areas import AreaTable, Snapshot, State
from ..model.space import VmallocRange

__all__ = ("space_of", "with_free_ranges")


def space_of(snapshot: Snapshot, given: Optional[Tuple[int, int]]) -> VmallocRange:
    """Return the range that was given, or from the first to the last area."""
    areas = snapshot.areas
    start, end = given or (int(areas.start.min()), int(areas.end.max()))
    return VmallocRange(start, end, end)


def with_free_ranges(snapshot: Snapshot, space: VmallocRange) -> Snapshot:
    """Return the snapshot with what no area has of a range as free ranges."""
    areas = snapshot.areas
    low, high = np.uint64(space.start), np.uint64(space.end)
    order = np.argsort(areas.start, kind="stable")
    start = np.clip(areas.start[order], low, high)
    end = np.maximum.accumulate(np.clip(areas.end[order], low, high))
    free_start = np.concatenate(([low], end)).astype(np.uint64)
    free_end = np.concatenate((start, [high])).astype(np.uint64)
    rows = np.flatnonzero(free_start < free_end)
    nothing = areas.take(np.zeros(0, np.intp))
    free = AreaTable(
        *(
            np.zeros((len(rows), *getattr(nothing, f.name).shape[1:]), column.dtype)
            for f in fields(AreaTable)
            for column in [getattr(nothing, f.name)]
        )
    )
    free = replace(
        free,
        start=free_start[rows],
        end=free_end[rows],
        state=np.full(len(rows), State.FREE, np.uint8),
        vmap_node=np.full(len(rows), -1, np.int16),
    )
    return replace(snapshot, areas=AreaTable.concatenate([areas, free]))
