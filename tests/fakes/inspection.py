# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A consistent kernel without areas but for its blocks', as fsck gets to see it."""

from __future__ import annotations

from dataclasses import fields

from drgn_vmap._numpy import np
from drgn_vmap.model.areas import AreaTable, Snapshot, State
from drgn_vmap.model.blocks import Blocks
from drgn_vmap.model.inspection import Inspection, VmPages
from drgn_vmap.model.space import LazyPages
from drgn_vmap.model.sums import PageCounter

__all__ = ("inspection_of",)

BLOCK_FLAGS = 3
LAST = 2**64 - 1


def inspection_of(blocks: Blocks) -> Inspection:
    """Return a kernel whose areas are those of the blocks, the rest being free."""
    areas = _areas(blocks)
    none = np.zeros(0, np.uint64)
    return Inspection(
        snapshot=Snapshot(blocks.kernel, areas, {}),
        blocks=blocks,
        trees=(),
        vm_pages=VmPages(np.zeros(0, np.intp), none, none, none, none, none == 0),
        pools=np.zeros((1, 4), np.uint64),
        nr_nodes=1,
        zone_size=None,
        lazy=LazyPages(0, 1000),
        counter=PageCounter("NR_VMALLOC", 0, 0),
        vm_set_early=True,
        dirty_range_reset=True,
        activity=(),
    )


def _areas(blocks: Blocks) -> AreaTable:
    """Return the busy areas of blocks, then free ones between and around them."""
    busy = len(blocks.table)
    starts = [1, *blocks.table.end.tolist()]
    ends = [*blocks.table.start.tolist(), LAST]
    free = [(start, end) for start, end in zip(starts, ends) if start < end]
    count = busy + len(free)
    columns = {f.name: np.zeros(count, np.uint64) for f in fields(AreaTable)}
    columns["address"][:busy] = blocks.table.area
    columns["start"][:busy] = blocks.table.start
    columns["end"][:busy] = blocks.table.end
    columns["va_flags"][:busy] = BLOCK_FLAGS
    for row, (start, end) in enumerate(free, busy):
        columns["address"][row] = 0xFFFF888000100000 + 128 * row
        columns["start"][row], columns["end"][row] = start, end
    is_busy = np.arange(count) < busy
    none = np.zeros(count, bool)
    return AreaTable(
        **{
            **columns,
            "state": np.where(is_busy, int(State.BUSY), int(State.FREE)),
            "vmap_node": np.zeros(count, np.int16),
            "is_block": is_busy,
            "vm_ok": none,
            "vpages": none,
            "numa_pages": np.zeros((count, 0), np.uint64),
            "owners": np.zeros(count, np.int64),
        }
    )
