# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Blocks
------

Reads ``struct vmap_block`` (mm/vmalloc.c), which divide an area among many small
vm_map_ram() mappings. Three things tell of a block: its counters and, since 6.3,
its bitmap; the xarrays and per-CPU lists that hold it; and the page table.
"""

from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Tuple

from ..._numpy import Array, U64Array, np
from ...model.areas import Problem, ProblemKind
from ...model.blocks import NO_CPU, Blocks, BlockTable
from ..memory.cpus import per_cpu_addresses, possible_cpus
from ..target import Target
from ..types.structs import (
    has_member,
    member_offset,
    need_offset,
    record_dtype,
)
from .lists import walk_list
from .racing import as_races, tries
from .trees import RADIX_TREE, XARRAY, IndexTree, read_xarrays

__all__ = ("block_areas", "take_blocks")

_BLOCKS_AT_ONCE = 4096
"""Blocks whose pages are looked up in one go, which bounds the memory it takes."""

_MEMBERS = {
    "va": "va",
    "free": "free",
    "dirty": "dirty",
    "dirty_min": "dirty_min",
    "dirty_max": "dirty_max",
    "used_map": "used_map[]",
    "free_prev": "free_list.prev",
    "cpu": "cpu",
}


def block_areas(target: Target) -> Tuple[U64Array, Tuple[Problem, ...]]:
    """
    Find the areas that are divided, where no flag of theirs says so (before 6.3).

    :return: Addresses of ``struct vmap_area``, and what was damaged.
    :raises SymbolsError: if where the blocks are is not known.
    """
    reader = _Reader(target, {"va": "va"})
    _, records, _ = reader.blocks()
    return records["va"], tuple(reader.problems)


def take_blocks(
    target: Target, once: bool = False, starts: Optional[U64Array] = None
) -> Blocks:
    """
    Read all blocks of a kernel, and which of their pages are mapped.

    :param once: Do not read a live kernel again if something is odd.
    :param starts: Return only the blocks at these addresses.
    :raises VmapError: if the target is none that can be read.
    """
    kernel = target.kernel
    for _ in range(1 if once else tries(kernel)):
        target.forget()
        reader = _Reader(target)
        blocks = reader.read(starts)
        if not blocks.problems:
            break
    target.forget()
    problems = (*target.layout.problems, *as_races(kernel, blocks.problems))
    return replace(blocks, problems=problems)


class _Reader:
    """One try at reading the blocks."""

    def __init__(self, target: Target, members: Mapping[str, str] = _MEMBERS) -> None:
        self._target = target
        self._kernel = target.kernel
        self._memory = target.memory
        self._dtype = record_dtype(
            target.prog, "struct vmap_block", members, optional=("used_map", "cpu")
        )
        self._cpus = possible_cpus(target.values)
        self.problems: List[Problem] = []

    def read(self, starts: Optional[U64Array] = None) -> Blocks:
        """Read blocks, lists and page table, in this order."""
        address, records, xarray_cpu = self.blocks()
        areas, ok = self._memory.records(records["va"], self._target.layout.vmap_area)
        self._report_lost(address[~ok], "its area is unreadable")
        order = np.flatnonzero(ok)
        order = order[np.argsort(areas["va_start"][order], kind="stable")]
        address, records, areas = address[order], records[order], areas[order]

        kernel = self._kernel
        list_cpu = self._list_cpus(address, records)
        if starts is not None:
            wanted = np.isin(areas["va_start"], starts)
            address, records, areas = address[wanted], records[wanted], areas[wanted]
            order, list_cpu = order[wanted], list_cpu[wanted]
        size = areas["va_end"] - areas["va_start"]
        bits = self._bits_per_block(size // np.uint64(kernel.page_size))
        mapped, known = self._mapped(areas["va_start"], bits, kernel.page_size)
        has_used_map = "used_map" in (self._dtype.names or ())
        table = BlockTable(
            address=address,
            area=records["va"],
            start=areas["va_start"],
            end=areas["va_end"],
            free=records["free"],
            dirty=records["dirty"],
            dirty_min=records["dirty_min"],
            dirty_max=records["dirty_max"],
            used=_bits(records["used_map"]) if has_used_map else np.zeros_like(mapped),
            mapped=mapped,
            mapped_known=known,
            xarray_cpu=xarray_cpu[order],
            list_cpu=list_cpu,
            queue_cpu=_queue_cpus(records),
        )
        return Blocks(
            kernel, bits, has_used_map, self._cpus, table, tuple(self.problems)
        )

    def blocks(self) -> Tuple[U64Array, Array, Array]:
        """
        Read the blocks that are in xarrays.

        :return: Addresses, records, and the CPU whose xarray holds each.
        """
        heads, cpus, form = self._xarrays()
        node = record_dtype(self._target.prog, form.node, {"slots": "slots[]"})
        address, owner, problems = read_xarrays(
            self._memory, heads, node, tries(self._kernel), form
        )
        self.problems += problems
        records, ok = self._memory.records(address, self._dtype)
        self._report_lost(address[~ok], "is unreadable")
        return address[ok], records[ok], cpus[owner[ok]]

    def _report_lost(self, addresses: U64Array, why: str) -> None:
        self.problems += [
            Problem(ProblemKind.UNREADABLE, f"vmap_block {at:#x}", f"{why}, left out")
            for at in addresses.tolist()
        ]

    def _xarrays(self) -> Tuple[U64Array, Array, IndexTree]:
        """Return the address of each xarray's head, its CPU, and what form it has."""
        # Since Linux kernel commit 062eacf57ad9 ("mm: vmalloc: remove a global
        # vmap_blocks xarray") (in v6.4), each CPU has one. Which CPU's holds a block
        # changed without a trace, in commit a34acf30b19b ("mm: vmalloc: check if a
        # hash-index is in cpu_possible_mask") (in v6.10, also in v6.6.y and v6.9.y), so
        # all of them are looked through.
        prog = self._target.prog
        if not has_member(prog, "struct vmap_block_queue", "vmap_blocks"):
            head, form = self._global_xarray()
            return np.array([head], np.uint64), np.array([NO_CPU]), form
        offset = need_offset(prog, "struct vmap_block_queue", "vmap_blocks.xa_head")
        queues = self._queues()
        heads = [(queue + offset) % (1 << 64) for queue in queues.values()]
        return np.array(heads, np.uint64), np.array(list(queues)), XARRAY

    def _global_xarray(self) -> Tuple[int, IndexTree]:
        """Return the address of the head of the one that has all blocks, and its form."""
        prog, values = self._target.prog, self._target.values
        # Until Linux kernel commit 0f14599c607d ("vmalloc: convert to XArray") (in v5.9),
        # it was a radix tree, which has been an xarray since commit f8d5d0cc145c ("xarray:
        # Add definition of struct xarray") (in v4.20).
        names = ("vmap_blocks", "vmap_block_tree")
        found = next(filter(None, map(values.address, names)), None)
        root = values.need(names[0], found)
        head = member_offset(prog, "struct radix_tree_root", "rnode")
        if head is not None and values.address(names[0]) is None:
            return root + head, RADIX_TREE
        return root + need_offset(prog, "struct xarray", "xa_head"), XARRAY

    def _queues(self) -> Dict[int, int]:
        """Return the address of each CPU's struct vmap_block_queue."""
        return per_cpu_addresses(self._target.values, "vmap_block_queue", self._cpus)

    def _list_cpus(self, address: U64Array, records: Array) -> Array:
        """Return the CPU on whose list of blocks with free pages each block is."""
        # Any of those that could not be read may be on a list.
        all_read = not self.problems
        rows = {at: row for row, at in enumerate(address.tolist())}
        list_cpu = np.full(len(address), NO_CPU)
        prog = self._target.prog
        head_offset = need_offset(prog, "struct vmap_block_queue", "free")
        link_offset = need_offset(prog, "struct vmap_block", "free_list")
        for cpu, queue in self._queues().items():
            before = head = (queue + head_offset) % (1 << 64)
            links, problems = walk_list(self._memory, head, self._target.live)
            self.problems += problems
            for link in links:
                row = rows.get(link - link_offset)
                if row is None and all_read:
                    self._stray(cpu, link - link_offset, "is in no xarray")
                elif row is not None:
                    if records["free_prev"][row] != before:
                        self._stray(cpu, link - link_offset, "names another neighbour")
                    if list_cpu[row] != NO_CPU:
                        self._stray(cpu, link - link_offset, "is on another list too")
                    list_cpu[row] = cpu
                before = link
        return list_cpu

    def _stray(self, cpu: int, block: int, what: str) -> None:
        detail = f"is on the list of CPU {cpu} and {what}"
        self.problems.append(
            Problem(ProblemKind.CORRUPT, f"vmap_block {block:#x}", detail)
        )

    def _bits_per_block(self, pages: U64Array) -> int:
        """Return VMAP_BBMAP_BITS, a macro: from the bitmap, or else the areas."""
        if "used_map" in (self._dtype.names or ()):
            return 8 * self._dtype["used_map"].itemsize
        if len(pages):
            values, counts = np.unique(pages, return_counts=True)
            most = int(values[np.argmax(counts)])
            if 0 < most <= _MAX_BITS:
                return most
        return _bits_by_formula(self._target)

    def _mapped(
        self, starts: U64Array, bits: int, page_size: int
    ) -> Tuple[Array, Array]:
        """Return which pages of each block are mapped, and whether that is known."""
        offsets = np.arange(bits, dtype=np.uint64) * np.uint64(page_size)
        mapped = np.zeros((len(starts), bits), bool)
        known = np.zeros(len(starts), bool)
        for at in range(0, len(starts), _BLOCKS_AT_ONCE):
            rows = slice(at, at + _BLOCKS_AT_ONCE)
            pages = starts[rows, np.newaxis] + offsets
            found = self._target.page_table.translate(pages.reshape(-1))
            self.problems += found.problems
            mapped[rows] = found.present.reshape(pages.shape)
            known[rows] = found.known.reshape(pages.shape).all(axis=1)
        return mapped, known


_MAX_BITS = 1024
"""VMAP_BBMAP_BITS_MAX."""


def _bits_by_formula(target: Target) -> int:
    """Compute VMAP_BBMAP_BITS as mm/vmalloc.c does; it depends on CONFIG_NR_CPUS."""
    word_bits = 8 * target.kernel.word_size
    space = 128 << 30 if word_bits == 64 else 128 << 20
    nr_cpus = 1
    if target.values.address("__per_cpu_offset") is not None:
        nr_cpus = target.prog["__per_cpu_offset"].type_.length or 1
    pages = space // target.page_size
    wanted = pages // (1 << (nr_cpus - 1).bit_length()) // 16
    return min(_MAX_BITS, max(2 * word_bits, wanted))


def _bits(words: Array) -> Array:
    """Return the bits of bitmaps of unsigned longs, one a column."""
    little = np.ascontiguousarray(words.astype(words.dtype.newbyteorder("<")))
    unpacked = np.unpackbits(little.view(np.uint8), axis=1, bitorder="little")
    return unpacked.astype(bool)


def _queue_cpus(records: Array) -> Array:
    # Since Linux kernel commit 8c61291fd850 ("mm: fix incorrect vbq reference in
    # purge_fragmented_block") (in v6.10, also in v6.6.y), a block knows its CPU.
    if "cpu" not in (records.dtype.names or ()):
        return np.full(len(records), NO_CPU)
    return records["cpu"].astype(np.int64)
