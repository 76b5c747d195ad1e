# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Blocks
------

Struct vmap_block, what of it is in use, and who takes pages from it.
"""

import enum
from dataclasses import dataclass
from typing import Optional, Tuple

from .._numpy import Array, U64Array
from .areas import Kernel, Problem

__all__ = (
    "NO_CPU",
    "BlockTable",
    "Blocks",
    "PageRange",
    "Block",
    "PageState",
    "CpuBlocks",
    "BlockTotals",
)

NO_CPU = -1
"""Stands for the CPU where none applies."""


@dataclass(frozen=True)
class BlockTable:
    """
    Struct vmap_block of a kernel, by address, as columns of equal length.

    Where no CPU applies, :data:`NO_CPU` stands.
    """

    address: U64Array
    area: U64Array
    """Address of the struct vmap_area that is divided."""
    start: U64Array
    end: U64Array
    free: U64Array
    """Pages never handed out. They are the last ones of the block."""
    dirty: U64Array
    """Pages handed out and freed. They are not handed out again."""
    dirty_min: U64Array
    dirty_max: U64Array
    used: Array
    """The bits of used_map: a row a block, a column a page."""
    mapped: Array
    """Which pages the page table maps, in the same form."""
    mapped_known: Array
    """False for a block of which parts of the page table could not be read."""
    xarray_cpu: Array
    """CPU whose xarray holds the block."""
    list_cpu: Array
    """CPU whose list of blocks with free pages holds the block."""
    queue_cpu: Array
    """The CPU that the member vmap_block.cpu names."""

    def __len__(self) -> int:
        return len(self.start)

    def __repr__(self) -> str:
        return f"<BlockTable of {len(self)} blocks>"


@dataclass(frozen=True)
class Blocks:
    """All struct vmap_block of a kernel at one moment."""

    kernel: Kernel
    bits_per_block: int
    """Pages a block has, VMAP_BBMAP_BITS of mm/vmalloc.c."""
    has_used_map: bool
    """struct vmap_block has the member used_map (series patch 1)."""
    cpus: Tuple[int, ...]
    """Possible CPUs, each of which has a list of blocks with free pages."""
    table: BlockTable
    problems: Tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        held = f"{len(self.table)} blocks, {len(self.problems)} problems"
        return f"<Blocks of {self.kernel.release!r}: {held}>"


PageRange = Tuple[int, int]
"""Index of the first page in a block, and of the first one behind."""


@dataclass(frozen=True)
class Block:
    """One struct vmap_block, as a row by itself; what does not apply is None."""

    start: int
    end: int
    vb: int
    """Address of the struct vmap_block."""
    free_pages: int
    dirty_pages: int
    dirty_min: int
    dirty_max: int
    used_pages: Optional[int]
    used_ranges: Optional[Tuple[PageRange, ...]]
    mapped_ranges: Optional[Tuple[PageRange, ...]]
    on_free_list_of_cpu: Optional[int]
    xarray_cpu: Optional[int]
    stranded_pages: int
    """Freed, but of no use to anybody until the whole block is given back."""
    purgeable: bool
    """Nothing in it is in use, so a purge may give it back."""


class PageState(enum.IntEnum):
    """What a page of a block is."""

    FREE = 0
    FREED = 1
    """Handed out before, and not handed out again."""
    USED = 2
    MAPPED = 3
    """In the page table although nobody uses it."""
    UNKNOWN = 4
    """Handed out before; only the page table, which cannot be read, tells more."""


@dataclass(frozen=True)
class CpuBlocks:
    """The blocks that a CPU takes pages from."""

    cpu: int
    blocks: int
    free_pages: int


@dataclass(frozen=True)
class BlockTotals:
    """Sums over all blocks."""

    blocks: int
    pages: int
    """That the blocks cover."""
    used_pages: Optional[int]
    """None on kernels without used_map."""
    mapped_pages: Optional[int]
    """None if part of the page table cannot be read."""
    free_pages: int
    stranded_pages: int
    purgeable: int
    """Blocks that a purge may give back."""
