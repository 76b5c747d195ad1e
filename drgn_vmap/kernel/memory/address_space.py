# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Address space
-------------

The kernel's memory by virtual address, one read at a time, as drgn asks for it: each
address is looked up in the kernel's page table, and read by physical address. To look up
many at once, see :mod:`.page_table`.
"""

import struct
import sys
import time
from typing import Callable, Dict, Iterable, Iterator, Sequence, Tuple

from drgn import FaultError, Program

from .table_formats import ENTRY_BYTES, ENTRY_SHIFT, TableFormat

__all__ = ("AddressSpace", "Reader")

_KEPT_SECONDS = 0.01
"""
How long is kept where tables of pages are: as long as a task may wait for a processor midway
through a walk, which so may be as old without. The kernel frees such a table of vmalloc
space only where a huge mapping takes its place. Entries of pages are read each time.
"""
_NOWHERE = -1
"""Stands for the physical address of what is not mapped."""

Reader = Callable[[int, int, int, bool], bytes]
"""What drgn calls with address, size, and what it means to nobody here."""
_Piece = Tuple[int, int]
"""Physical address and size of what lies together."""


class AddressSpace:
    """
    Kernel memory by virtual address, through the kernel's page table.

    :param root: Physical address of the uppermost table.
    """

    def __init__(
        self,
        prog: Program,
        format_: TableFormat,
        root: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prog = prog
        self._format = format_
        self._root = root
        self._clock = clock
        native = "<" if sys.byteorder == "little" else ">"
        self._is_native = format_.order == native
        """Tables of ppc64le are not: they are big-endian."""
        valid, link = format_.valid, format_.link
        self._link_mask, self._link = valid.mask | link.mask, valid.value | link.value
        """Bits of entries that lead to a table."""
        self._windows = format_.windows()
        self._page_size = 1 << format_.shifts[-1]
        self._levels = [
            (shift, (1 << format_.index_bits(level)) - 1)
            for level, shift in enumerate(format_.shifts)
        ]
        """Of each, the shift and the mask of its index in an address."""
        self._above_shift, self._table_shift = (format_.bits, *format_.shifts)[-3:-1]
        self._table_size = 1 << self._table_shift
        """Bytes that one table of pages translates."""
        self._tables: Dict[int, int] = {}
        """Physical addresses of tables of pages, by the upper bits of what they translate."""
        self._above: Dict[int, Sequence[int]] = {}
        """Entries of the tables right above them."""
        self._until = 0.0
        """When both are too old."""

    def reader(self) -> Reader:
        """
        Return what reads memory.

        It raises FaultError, with the first address that nothing is mapped at, or that leads
        to what is no RAM.
        """
        # Most reads are within a page, and take two of physical memory: of its entry and of
        # the bytes. Python's calls and lookups of attributes would take as long again: here
        # they are as few as can be.
        read, read_entry = self._prog.read, self._entry_reader()
        clock, known_table, find_table = self._clock, self._tables.get, self._find_table
        page_size, page_mask = self._page_size, self._page_size - 1
        table_shift, (page_shift, index_mask) = self._table_shift, self._levels[-1]
        shift, mask = page_shift - ENTRY_SHIFT, index_mask << ENTRY_SHIFT
        valid_mask, valid = self._format.valid_page
        frame_mask, high_mask, high_shift = self._format.frame

        def read_memory(address: int, count: int, _: int, __: bool) -> bytes:
            if clock() > self._until:
                self._forget()
            inside = address & page_mask
            if inside + count <= page_size:
                try:
                    table = known_table(address >> table_shift)
                    if table is None:
                        table = find_table(address)
                    entry = read_entry(table + (address >> shift & mask), True)
                    if entry & valid_mask == valid:
                        phys = (entry & frame_mask) + inside
                        if high_mask:
                            phys |= (entry & high_mask) << high_shift
                        return read(phys, count, True)
                except FaultError:
                    pass  # Whatever it is, below it is told which address it is of.
            return b"".join(self._read_pieces(address, count))

        return read_memory

    def _forget(self) -> None:
        self._tables.clear()
        self._above.clear()
        self._until = self._clock() + _KEPT_SECONDS

    def _find_table(self, address: int) -> int:
        """
        Return where the table of pages is that translates an address, and keep that.

        :raises FaultError: if there is none that can be found.
        """
        number = address >> self._above_shift
        above, level = self._above.get(number), len(self._levels) - 2
        shift, mask = self._levels[level]
        if above is None:
            table, is_memory = self._walk(address, level)
            if is_memory:
                raise FaultError("no table of pages", address)
            above = self._above[number] = self._entries(table, mask + 1, address)
        entry = above[address >> shift & mask]
        if entry & self._link_mask != self._link:
            raise FaultError("no table of pages", address)
        table = self._tables[address >> shift] = self._format.table(entry)
        return table

    def _read_pieces(self, address: int, count: int) -> Iterator[bytes]:
        """Read what may be long, or in a large page, or not be there; nothing is kept."""
        for phys, size in _together(self._pieces(address, address + count)):
            if phys == _NOWHERE:
                raise FaultError("nothing is mapped there", address)
            yield self._physical(phys, size, address)
            address += size

    def _pieces(self, address: int, end: int) -> Iterator[_Piece]:
        while address < end:
            in_table = address & (self._table_size - 1)
            size = min(end - address, self._table_size - in_table)
            phys, is_memory = self._walk(address, len(self._levels) - 1)
            if is_memory:
                yield phys, size
            else:
                yield from self._pages(phys, address, size)
            address += size

    def _pages(self, table: int, address: int, size: int) -> Iterator[_Piece]:
        shift, mask = self._levels[-1]
        (valid_mask, valid), frame = self._format.valid_page, self._format.frame
        page_size = self._page_size
        inside = address & (page_size - 1)
        count = (inside + size - 1) // page_size + 1
        place = table + ((address >> shift & mask) << ENTRY_SHIFT)
        for entry in self._entries(place, count, address):
            of_page = min(size, page_size - inside)
            is_there = entry & valid_mask == valid
            yield frame(entry) + inside if is_there else _NOWHERE, of_page
            size, inside = size - of_page, 0

    def _walk(self, address: int, levels: int) -> Tuple[int, bool]:
        """
        Walk so many levels down.

        :return: Physical address of the next table, or of the memory if an entry leads there
            at once, or nowhere; and whether it is no table.
        """
        table = self._root
        if not any(low <= address <= high for low, high in self._windows):
            return _NOWHERE, True
        for shift, mask in self._levels[:levels]:
            place = table + ((address >> shift & mask) << ENTRY_SHIFT)
            [entry] = self._entries(place, 1, address)
            if not self._format.valid(entry):
                return _NOWHERE, True
            if self._format.leaf(entry, shift):
                inside = (1 << shift) - 1
                return self._format.frame(entry) & ~inside | address & inside, True
            table = self._format.table(entry)
        return table, False

    def _entries(self, place: int, count: int, address: int) -> Sequence[int]:
        raw = self._physical(place, count * ENTRY_BYTES, address)
        if self._is_native:
            return memoryview(raw).cast("Q")
        return struct.unpack(f"{self._format.order}{count}Q", raw)

    def _entry_reader(self) -> Callable[[int, bool], int]:
        if self._is_native:
            return self._prog.read_u64
        entry = struct.Struct(f"{self._format.order}Q")
        read = self._prog.read
        return lambda place, _: entry.unpack(read(place, ENTRY_BYTES, True))[0]

    def _physical(self, phys: int, count: int, address: int) -> bytes:
        """Read physical memory that an address led to."""
        try:
            return self._prog.read(phys, count, True)
        except FaultError as e:
            at = address + max(e.address - phys, 0)
            why = f"it leads to {e.address:#x}, which is no RAM that can be read"
            raise FaultError(why, at) from e


def _together(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """Yield pieces, those that lie behind one another as one."""
    start = size = 0
    for phys, more in pieces:
        if phys == start + size:
            size += more
            continue
        if size:
            yield start, size
        start, size = phys, more
    if size:
        yield start, size
