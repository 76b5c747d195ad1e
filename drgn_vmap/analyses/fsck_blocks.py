# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Consistency of blocks
---------------------

What always holds of a struct vmap_block (mm/vmalloc.c), and what holds but for the
moments in which vb_alloc(), vb_free() or a purge change it.
"""

from typing import Sequence, Tuple

from .._numpy import Array, U64Array, np
from ..model.areas import VMAP_BLOCK, VMAP_RAM, State
from ..model.blocks import NO_CPU, Blocks
from ..model.inspection import Inspection
from .outcome import CheckFunction, Looked, Outcome, Skip, failures_at

__all__ = ("BLOCK_CHECKS",)

_NO_BITMAP = Skip("this kernel keeps no bitmap of used pages (used_map)")
_ALLOCATING = "while pages are handed out"
_FREEING = "while pages are freed"
_MAKING = "while a block is made or given back"


def _bits(blocks: Blocks) -> "np.uint64":
    return np.uint64(blocks.bits_per_block)


def _used_count(blocks: Blocks) -> U64Array:
    return blocks.table.used.sum(axis=1).astype(np.uint64)


def _plausible(blocks: Blocks) -> Array:
    """Blocks whose counters can be added up."""
    table, bits = blocks.table, _bits(blocks)
    plausible: Array = (table.free <= bits) & (table.dirty <= bits)
    return plausible


def _counters(found: Inspection) -> Outcome:
    table, bits = found.blocks.table, _bits(found.blocks)
    count = _used_count(found.blocks)
    wrong = ~_plausible(found.blocks) | (count + table.free + table.dirty > bits)
    failures = failures_at(
        table.address,
        wrong,
        lambda row: f"vmap_block of {table.start[row]:#x}: {count[row]} used + "
        f"{table.free[row]} free + {table.dirty[row]} dirty pages are more than {bits}",
    )
    return Looked(len(table), list(failures))


def _sum(found: Inspection) -> Outcome:
    if not found.blocks.has_used_map:
        return _NO_BITMAP
    table, bits = found.blocks.table, _bits(found.blocks)
    count = _used_count(found.blocks)
    short = _plausible(found.blocks) & (count + table.free + table.dirty < bits)
    failures = failures_at(
        table.address,
        short,
        lambda row: f"vmap_block of {table.start[row]:#x}: {count[row]} used + "
        f"{table.free[row]} free + {table.dirty[row]} dirty pages are not {bits}",
        _FREEING,
    )
    return Looked(len(table), list(failures))


def _handed_out(blocks: Blocks) -> Array:
    """Return which pages were handed out, those before the bump pointer."""
    bits = _bits(blocks)
    free = np.minimum(blocks.table.free, bits)
    pages = np.arange(blocks.bits_per_block, dtype=np.uint64)
    handed_out: Array = pages < (bits - free)[:, np.newaxis]
    return handed_out


def _bump_pointer(found: Inspection) -> Outcome:
    if not found.blocks.has_used_map:
        return _NO_BITMAP
    table = found.blocks.table
    beyond: Array = table.used & ~_handed_out(found.blocks)
    failures = failures_at(
        table.address,
        np.any(beyond, axis=1),
        lambda row: f"vmap_block of {table.start[row]:#x}: page "
        f"{beyond[row].argmax()} is used, but never was handed out",
    )
    return Looked(len(table), list(failures))


def _dirty_range(found: Inspection) -> Outcome:
    table, bits = found.blocks.table, _bits(found.blocks)
    low, high = table.dirty_min, table.dirty_max
    empty = (low == bits) & (high == 0)
    purged = (table.free == 0) & (table.dirty == bits)
    limit = np.where(purged, bits, bits - np.minimum(table.free, bits))
    wrong: Array = ~empty & ((low >= high) | (high > limit))
    failures = failures_at(
        table.address,
        wrong,
        lambda row: f"vmap_block of {table.start[row]:#x}: no dirty range can be "
        f"{low[row]} to {high[row]} of {limit[row]} pages handed out",
    )
    return Looked(len(table), list(failures))


def _dirty_count(found: Inspection) -> Outcome:
    if found.dirty_range_reset:
        return Skip("this kernel empties the dirty range, but not the count")
    table = found.blocks.table
    low, high = table.dirty_min, table.dirty_max
    wrong = (low < high) & (table.dirty > high - low)
    wrong |= (low >= high) & (table.dirty > 0)
    failures = failures_at(
        table.address,
        wrong,
        lambda row: f"vmap_block of {table.start[row]:#x}: {table.dirty[row]} dirty "
        f"pages in a dirty range of {low[row]} to {high[row]}",
    )
    return Looked(len(table), list(failures))


def _free_list(found: Inspection) -> Outcome:
    table = found.blocks.table
    listed = table.list_cpu != NO_CPU
    failures = failures_at(
        table.address,
        listed != (table.free > 0),
        lambda row: f"vmap_block of {table.start[row]:#x} has {table.free[row]} free "
        f"pages and is on {'a' if listed[row] else 'no'} CPU's list",
        f"{_ALLOCATING}, or {_MAKING}",
    )
    return Looked(len(table), list(failures))


def _list_cpu(found: Inspection) -> Outcome:
    table = found.blocks.table
    told = (table.queue_cpu != NO_CPU) & (table.list_cpu != NO_CPU)
    if not told.any() and len(table):
        return Skip("blocks of this kernel do not name their CPU")
    failures = failures_at(
        table.address,
        told & (table.queue_cpu != table.list_cpu),
        lambda row: f"vmap_block of {table.start[row]:#x} is on the list of CPU "
        f"{table.list_cpu[row]}, but names CPU {table.queue_cpu[row]}",
    )
    return Looked(int(told.sum()), list(failures))


def _area_of_block(found: Inspection) -> Outcome:
    table, areas = found.blocks.table, found.snapshot.areas
    size = _bits(found.blocks) * np.uint64(found.blocks.kernel.page_size)
    busy = np.isin(table.area, areas.address[areas.state == State.BUSY])
    divided = np.isin(table.area, areas.address[areas.is_block])
    shaped = (table.end - table.start == size) & (table.start % size == 0)
    area = found.blocks.kernel.has_va_flags
    failures = failures_at(
        table.address,
        ~(busy & divided & shaped),
        lambda row: f"vmap_block's area {table.area[row]:#x} at {table.start[row]:#x}-"
        f"{table.end[row]:#x} is "
        + ("no block" if shaped[row] else f"not {size} bytes, aligned")
        + (" in use" if not busy[row] else " by its flags" if area else ""),
    )
    return Looked(len(table), list(failures))


def _block_of_area(found: Inspection) -> Outcome:
    if not found.blocks.kernel.has_va_flags:
        return Skip("areas of this kernel do not say that they are blocks")
    areas = found.snapshot.areas
    both = np.uint64(VMAP_RAM | VMAP_BLOCK)
    marked = (areas.state == State.BUSY) & (areas.va_flags & both == both)
    failures = failures_at(
        areas.address,
        marked & ~np.isin(areas.address, found.blocks.table.area),
        lambda row: f"vmap_area at {areas.start[row]:#x} is a block, but no xarray "
        "has its vmap_block",
        _MAKING,
    )
    return Looked(int(marked.sum()), list(failures))


def _mapped_pages(found: Inspection) -> Outcome:
    blocks = found.blocks
    table = blocks.table
    if len(table.mapped_known) and not table.mapped_known.any():
        return Skip("which pages are mapped is not known")
    in_use = table.used if blocks.has_used_map else _handed_out(blocks)
    stray: Array = table.mapped & ~in_use
    failures = failures_at(
        table.address,
        np.any(stray, axis=1) & table.mapped_known,
        lambda row: f"vmap_block of {table.start[row]:#x}: page "
        f"{stray[row].argmax()} is mapped, but not in use",
        _FREEING,
    )
    return Looked(int(table.mapped.sum()), list(failures))


BLOCK_CHECKS: Sequence[Tuple[str, str, CheckFunction]] = (
    ("block-counters", "used, free and dirty pages fit into each block", _counters),
    ("block-sum", "each page of a block is used, free or dirty", _sum),
    ("block-bump-pointer", "used pages have been handed out", _bump_pointer),
    ("block-dirty-range", "dirty ranges lie in what was handed out", _dirty_range),
    ("block-dirty-count", "dirty pages fit into dirty ranges", _dirty_count),
    ("block-list", "blocks with free pages are on a CPU's list", _free_list),
    ("block-list-cpu", "blocks are on the list of the CPU they name", _list_cpu),
    (
        "block-area",
        "the area of each block is in use, marked and whole",
        _area_of_block,
    ),
    ("area-block", "each area that is marked as a block is one", _block_of_area),
    ("block-mapped", "mapped pages of blocks are in use", _mapped_pages),
)
