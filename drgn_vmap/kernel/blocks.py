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
from typing import List, Optional, Tuple

from drgn import Program, offsetof
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.percpu import per_cpu_ptr

from .._numpy import Array, U64Array, np
from ..model.areas import Kernel, Problem
from ..model.blocks import NO_CPU, Blocks, BlockTable
from .layout import Layout, probe_layout
from .lists import walk_list
from .memory import Memory
from .pagetable import PageTable
from .racing import as_races, tries
from .structs import record_dtype
from .trees import read_xarrays

__all__ = ("block_areas", "take_blocks")

_BLOCKS_AT_ONCE = 4096
"""Blocks whose pages are looked up in one go, which bounds the memory it takes."""

_MEMBERS = {
    "va": "va",
    "free": "free",
    "dirty": "dirty",
    "dirty_min": "dirty_min",
    "dirty_max": "dirty_max",
    "used_map": "used_map",
    "free_prev": "free_list.prev",
    "cpu": "cpu",
}


def block_areas(
    prog: Program, kernel: Kernel, memory: Memory
) -> Tuple[U64Array, Tuple[Problem, ...]]:
    """
    Find the areas that are divided, where no flag of theirs says so (before 6.3).

    :return: Addresses of ``struct vmap_area``, and what was damaged.
    """
    reader = _Reader(prog, kernel, memory)
    _, records, _ = reader.blocks()
    return records["va"], tuple(reader.problems)


def take_blocks(
    prog: Program, once: bool = False, starts: Optional[U64Array] = None
) -> Blocks:
    """
    Read all blocks of a kernel, and which of their pages are mapped.

    :param once: Do not read a live kernel again if something is odd.
    :param starts: Return only the blocks at these addresses.
    :raises VmapError: if the target is none that can be read.
    """
    layout = probe_layout(prog)
    memory = Memory(prog, layout.kernel.page_size)
    for _ in range(1 if once else tries(layout.kernel)):
        memory.forget()
        reader = _Reader(prog, layout.kernel, memory)
        blocks = reader.read(layout, starts)
        if not blocks.problems:
            break
    problems = (*layout.problems, *as_races(layout.kernel, blocks.problems))
    return replace(blocks, problems=problems)


class _Reader:
    """One try at reading the blocks."""

    def __init__(self, prog: Program, kernel: Kernel, memory: Memory) -> None:
        self._prog = prog
        self._kernel = kernel
        self._memory = memory
        self._dtype = record_dtype(prog, "struct vmap_block", _MEMBERS)
        self.problems: List[Problem] = []

    def read(self, layout: Layout, starts: Optional[U64Array] = None) -> Blocks:
        """Read blocks, lists and page table, in this order."""
        address, records, xarray_cpu = self.blocks()
        areas, ok = self._memory.records(records["va"], layout.vmap_area)
        self._report_lost(address[~ok], "its area is unreadable")
        order = np.flatnonzero(ok)
        order = order[np.argsort(areas["va_start"][order], kind="stable")]
        address, records, areas = address[order], records[order], areas[order]

        kernel = self._kernel
        cpus = tuple(for_each_possible_cpu(self._prog))
        list_cpu = self._list_cpus(cpus, address, records)
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
        return Blocks(kernel, bits, has_used_map, cpus, table, tuple(self.problems))

    def blocks(self) -> Tuple[U64Array, Array, Array]:
        """
        Read the blocks that are in xarrays.

        :return: Addresses, records, and the CPU whose xarray holds each.
        """
        heads, cpus = self._xarrays()
        node = record_dtype(self._prog, "struct xa_node", {"slots": "slots"})
        address, owner, problems = read_xarrays(
            self._memory, heads, node, tries(self._kernel)
        )
        self.problems += problems
        records, ok = self._memory.records(address, self._dtype)
        self._report_lost(address[~ok], "is unreadable")
        return address[ok], records[ok], cpus[owner[ok]]

    def _report_lost(self, addresses: U64Array, why: str) -> None:
        self.problems += [
            Problem("unreadable", f"vmap_block {at:#x}", f"{why}, left out")
            for at in addresses.tolist()
        ]

    def _xarrays(self) -> Tuple[U64Array, Array]:
        """Return the address of each xarray's head, and the CPU that it belongs to."""
        # Since Linux kernel commit 062eacf57ad9 ("mm: vmalloc: remove a global
        # vmap_blocks xarray") (in v6.4), each CPU has one. Which CPU's holds a
        # block changed later without a trace, so all of them are looked through.
        queue = self._prog.type("struct vmap_block_queue")
        if not queue.has_member("vmap_blocks"):
            head = self._prog["vmap_blocks"].xa_head.address_of_()
            return np.array([head.value_()], np.uint64), np.array([NO_CPU])
        cpus = list(for_each_possible_cpu(self._prog))
        head_offset = offsetof(queue, "vmap_blocks.xa_head")
        heads = [
            per_cpu_ptr(self._prog["vmap_block_queue"].address_of_(), cpu).value_()
            + head_offset
            for cpu in cpus
        ]
        return np.array(heads, np.uint64), np.array(cpus)

    def _list_cpus(
        self, cpus: Tuple[int, ...], address: U64Array, records: Array
    ) -> Array:
        """Return the CPU on whose list of blocks with free pages each block is."""
        rows = {at: row for row, at in enumerate(address.tolist())}
        list_cpu = np.full(len(address), NO_CPU)
        head_offset = offsetof(self._prog.type("struct vmap_block_queue"), "free")
        link_offset = offsetof(self._prog.type("struct vmap_block"), "free_list")
        for cpu in cpus:
            queue = per_cpu_ptr(self._prog["vmap_block_queue"].address_of_(), cpu)
            before = head = queue.value_() + head_offset
            links, problems = walk_list(self._prog, head)
            self.problems += problems
            for link in links:
                row = rows.get(link - link_offset)
                if row is None:
                    self._stray(cpu, link - link_offset, "is in no xarray")
                else:
                    if records["free_prev"][row] != before:
                        self._stray(cpu, link - link_offset, "names another neighbour")
                    if list_cpu[row] != NO_CPU:
                        self._stray(cpu, link - link_offset, "is on another list too")
                    list_cpu[row] = cpu
                before = link
        return list_cpu

    def _stray(self, cpu: int, block: int, what: str) -> None:
        detail = f"is on the list of CPU {cpu} and {what}"
        self.problems.append(Problem("corrupt", f"vmap_block {block:#x}", detail))

    def _bits_per_block(self, pages: U64Array) -> int:
        """Return VMAP_BBMAP_BITS, a macro: from the bitmap, or else the areas."""
        if "used_map" in (self._dtype.names or ()):
            return 8 * self._dtype["used_map"].itemsize
        if len(pages):
            values, counts = np.unique(pages, return_counts=True)
            most = int(values[np.argmax(counts)])
            if 0 < most <= _MAX_BITS:
                return most
        return _bits_by_formula(self._prog)

    def _mapped(
        self, starts: U64Array, bits: int, page_size: int
    ) -> Tuple[Array, Array]:
        """Return which pages of each block are mapped, and whether that is known."""
        table = PageTable(self._prog, page_size)
        offsets = np.arange(bits, dtype=np.uint64) * np.uint64(page_size)
        mapped = np.zeros((len(starts), bits), bool)
        known = np.zeros(len(starts), bool)
        for at in range(0, len(starts), _BLOCKS_AT_ONCE):
            rows = slice(at, at + _BLOCKS_AT_ONCE)
            pages = starts[rows, np.newaxis] + offsets
            found = table.translate(pages.reshape(-1))
            mapped[rows] = found.present.reshape(pages.shape)
            known[rows] = found.known.reshape(pages.shape).all(axis=1)
        self.problems += table.problems
        return mapped, known


_MAX_BITS = 1024
"""VMAP_BBMAP_BITS_MAX."""


def _bits_by_formula(prog: Program) -> int:
    """Compute VMAP_BBMAP_BITS as mm/vmalloc.c does; it depends on CONFIG_NR_CPUS."""
    word_bits = 8 * prog.type("unsigned long").size
    space = 128 << 30 if word_bits == 64 else 128 << 20
    try:
        nr_cpus = prog["__per_cpu_offset"].type_.length
    except KeyError:
        nr_cpus = 1
    pages = space // prog["PAGE_SIZE"].value_()
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
