# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Inside the blocks
-----------------

What each block's pages are used for, and what is stranded in blocks that are
neither full nor empty.
"""

from typing import Iterator, Optional, Tuple

from .._numpy import Array, np
from ..model.blocks import (
    NO_CPU,
    Block,
    Blocks,
    BlockTotals,
    CpuBlocks,
    PageRange,
    PageState,
)

__all__ = (
    "block_totals",
    "blocks_by_cpu",
    "describe_blocks",
    "page_states",
    "purgeable_mask",
    "select_blocks",
)


def describe_blocks(blocks: Blocks, rows: Array) -> Iterator[Block]:
    """Yield the blocks in these rows of ``blocks.table`` one by one."""
    table = blocks.table
    purgeable = purgeable_mask(blocks)
    for row in rows.tolist():
        known = bool(table.mapped_known[row])
        used = table.used[row] if blocks.has_used_map else None
        yield Block(
            start=int(table.start[row]),
            end=int(table.end[row]),
            vb=int(table.address[row]),
            free_pages=int(table.free[row]),
            dirty_pages=int(table.dirty[row]),
            dirty_min=int(table.dirty_min[row]),
            dirty_max=int(table.dirty_max[row]),
            used_pages=None if used is None else int(used.sum()),
            used_ranges=None if used is None else _ranges(used),
            mapped_ranges=_ranges(table.mapped[row]) if known else None,
            on_free_list_of_cpu=_cpu(table.list_cpu[row]),
            xarray_cpu=_cpu(table.xarray_cpu[row]),
            stranded_pages=int(table.dirty[row]),
            purgeable=bool(purgeable[row]),
        )


def select_blocks(
    blocks: Blocks, address: Optional[int] = None, cpu: Optional[int] = None
) -> Array:
    """
    Return the rows of ``blocks.table`` that match, by ascending address.

    :param address: Only the block that this lies in.
    :param cpu: Only blocks that this CPU takes pages from.
    """
    table = blocks.table
    matches = np.ones(len(table), bool)
    if address is not None:
        at = np.uint64(address)
        matches &= (table.start <= at) & (at < table.end)
    if cpu is not None:
        matches &= table.list_cpu == cpu
    return np.flatnonzero(matches)


def purgeable_mask(blocks: Blocks) -> Array:
    """
    Return which blocks a purge may give back: nothing in them is in use, as
    purge_fragmented_block() sees it.
    """
    table = blocks.table
    bits = np.uint64(blocks.bits_per_block)
    mask: Array = (table.free + table.dirty == bits) & (table.dirty != bits)
    return mask


def page_states(blocks: Blocks, rows: Array) -> Array:
    """
    Return the :class:`~drgn_vmap.model.blocks.PageState` of each page: a row a block, a column a page.

    Without used_map a page that has been handed out is in use if it is mapped, and
    unknown if that cannot be told.
    """
    table = blocks.table
    bits = blocks.bits_per_block
    handed_out = np.arange(bits) < bits - np.minimum(table.free[rows], bits)[:, None]
    mapped = table.mapped[rows]
    used = table.used[rows] if blocks.has_used_map else mapped & handed_out
    states = np.where(handed_out, PageState.FREED, PageState.FREE)
    if not blocks.has_used_map:
        states[handed_out & ~table.mapped_known[rows, None]] = PageState.UNKNOWN
    states[mapped] = PageState.MAPPED
    states[used] = PageState.USED
    return states


def block_totals(blocks: Blocks) -> BlockTotals:
    """Sum up all blocks."""
    table = blocks.table
    return BlockTotals(
        blocks=len(table),
        pages=len(table) * blocks.bits_per_block,
        used_pages=int(table.used.sum()) if blocks.has_used_map else None,
        mapped_pages=int(table.mapped.sum()) if table.mapped_known.all() else None,
        free_pages=int(table.free.sum()),
        stranded_pages=int(table.dirty.sum()),
        purgeable=int(purgeable_mask(blocks).sum()),
    )


def blocks_by_cpu(blocks: Blocks) -> Tuple[CpuBlocks, ...]:
    """Sum up the list of blocks with free pages of each CPU."""
    table = blocks.table
    found = []
    for cpu in blocks.cpus:
        on_list = table.list_cpu == cpu
        free_pages = int(table.free[on_list].sum())
        found.append(CpuBlocks(cpu, int(on_list.sum()), free_pages))
    return tuple(found)


def _cpu(cpu: int) -> Optional[int]:
    return None if cpu == NO_CPU else int(cpu)


def _ranges(pages: Array) -> Tuple[PageRange, ...]:
    """Return the runs of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], pages, [False]))))
    return tuple(zip(edges[::2].tolist(), edges[1::2].tolist()))
