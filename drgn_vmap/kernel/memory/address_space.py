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
from functools import partial
from timeit import repeat
from typing import Callable, Dict, Iterable, Iterator, Optional, Sequence, Tuple

from drgn import FaultError, Program

from .table_formats import ENTRY_BYTES, ENTRY_SHIFT, TableFormat

__all__ = ("AddressSpace", "Reader")

_KEPT_SECONDS = 0.01
"""
How long is kept where tables of pages are: as long as a task may wait for a processor midway
through a walk, which so may be as old without. The kernel frees such a table of vmalloc
space only where a huge mapping takes its place. Entries of pages are read each time.
"""
_MOST_COMPARED = 16
"""Of what was read to find them, how much is then read again, to see that it is as it was."""
_CLOCKS = time.monotonic, partial(time.clock_gettime, 6)
"""
The latter is Linux's CLOCK_MONOTONIC_COARSE, which Python does not name: it goes on by ticks,
but takes no system call where the former does, as of an hpet: the twentieth part of a read.
"""
_NOWHERE = -1
"""Stands for the physical address of what is not mapped."""

Reader = Callable[[int, int, int, bool], bytes]
"""What drgn calls with address, size, offset in the segment, and whether that is physical."""
_Piece = Tuple[int, int]
"""Physical address and size of what lies together."""
_ReadTable = Callable[[int, int, int], bytes]
"""Reads tables: physical address, size, and the virtual address that led there."""


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
        clock: Optional[Callable[[], float]] = None,
    ) -> None:
        self._prog = prog
        self._format = format_
        self._root = root
        self._clock = clock or _quickest(_CLOCKS)
        native = "<" if sys.byteorder == "little" else ">"
        self._is_native = format_.order == native
        """Tables of ppc64le are not: they are big-endian."""
        self._windows = format_.windows()
        self._page_size = 1 << format_.shifts[-1]
        self._levels = [
            (shift, (1 << format_.index_bits(level)) - 1)
            for level, shift in enumerate(format_.shifts)
        ]
        """Of each, the shift and the mask of its index in an address."""
        self._table_shift = format_.shifts[-2]
        self._table_size = 1 << self._table_shift
        """Bytes that one table of pages translates."""

    def reader(self, start: int) -> Reader:
        """
        Return what reads memory of one segment.

        It raises FaultError, with the first address that nothing is mapped at, or that leads
        to what is no RAM.

        :param start: Where the segment begins.
        """
        # Most reads are within a page, and take two of physical memory: of its entry and of
        # the bytes. Python's calls, lookups of attributes and long integers would take as
        # long again: here they are as few as can be, and offsets are shorter than addresses.
        read, (read_entry, frame_mask) = self._prog.read, self._page_entries()
        clock, tables = self._clock, _Tables(self._format, self._above, self._physical)
        known = tables.known
        page_size, page_mask = self._page_size, self._page_size - 1
        table_shift, (page_shift, index_mask) = self._table_shift, self._levels[-1]
        shift, mask = page_shift - ENTRY_SHIFT, index_mask << ENTRY_SHIFT
        valid_mask, valid = self._format.valid_page
        # Where tables begin is where vmalloc space does, but nothing says that it must.
        before = start & (self._table_size - 1)
        until = 0.0

        def renew() -> None:
            nonlocal until
            until = clock() + _KEPT_SECONDS
            tables.renew()

        def find(address: int, at: int) -> None:
            try:
                known[at >> table_shift] = tables.find(address)
            except FaultError:
                pass  # Whatever it is, below it is told which address it is of.

        def read_memory(address: int, count: int, at: int, _: bool = False) -> bytes:
            if clock() > until:
                renew()
            inside = at & page_mask
            if inside + count <= page_size:
                try:
                    place = known[at >> table_shift] + (at >> shift & mask)
                    entry = read_entry(place, True)
                    if entry & valid_mask == valid:
                        return read((entry & frame_mask) + inside, count, True)
                except KeyError:
                    find(address, at)
                except FaultError:
                    pass
            return b"".join(self._read_pieces(address, count))

        if not before:
            return read_memory
        return lambda address, count, at, _: read_memory(address, count, at + before)

    def _above(self, address: int, read: _ReadTable) -> bytes:
        """
        Return the table right above that of the page at an address.

        :raises FaultError: if there is none that can be found.
        """
        level = len(self._levels) - 2
        table, is_memory = self._walk(address, level, read)
        if is_memory:
            raise FaultError("no table of pages", address)
        return read(table, self._levels[level][1] + 1 << ENTRY_SHIFT, address)

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
            phys, is_memory = self._walk(address, len(self._levels) - 1, self._physical)
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
        raw = self._physical(place, count << ENTRY_SHIFT, address)
        for entry in self._entries(raw):
            entry = self._format.single(entry, place)
            place += ENTRY_BYTES
            of_page = min(size, page_size - inside)
            is_there = entry & valid_mask == valid
            yield frame(entry) + inside if is_there else _NOWHERE, of_page
            size, inside = size - of_page, 0

    def _walk(self, address: int, levels: int, read: _ReadTable) -> Tuple[int, bool]:
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
            [entry] = self._entries(read(place, ENTRY_BYTES, address))
            if not self._format.valid(entry):
                return _NOWHERE, True
            if self._format.leaf(entry, shift):
                inside = (1 << shift) - 1
                return self._format.frame(entry) & ~inside | address & inside, True
            table = self._format.table(entry)
        return table, False

    def _entries(self, raw: bytes) -> Sequence[int]:
        if self._is_native:
            return memoryview(raw).cast("Q")
        return struct.unpack(f"{self._format.order}{len(raw) >> ENTRY_SHIFT}Q", raw)

    def _page_entries(self) -> Tuple[Callable[[int, bool], int], int]:
        """
        Return what reads an entry of a page by its physical address, and which bits of it
        are those of the page.
        """
        frame, single = self._format.frame, self._format.single
        if self._is_native and not frame.high_mask:
            return self._prog.read_u64, frame.mask
        as_entry = struct.Struct(f"{self._format.order}Q")
        read, valid_mask = self._prog.read, self._format.valid_page.mask

        def read_entry(place: int, _: bool) -> int:
            [entry] = as_entry.unpack(read(place, ENTRY_BYTES, True))
            entry = single(entry, place)
            return frame(entry) | entry & valid_mask

        return read_entry, ~valid_mask

    def _physical(self, phys: int, count: int, address: int) -> bytes:
        """Read physical memory that an address led to."""
        try:
            return self._prog.read(phys, count, True)
        except FaultError as e:
            at = address + max(e.address - phys, 0)
            why = f"it leads to {e.address:#x}, which is no RAM that can be read"
            raise FaultError(why, at) from e


class _Tables:
    """
    Where the tables of pages are that translate addresses of a segment.

    :param read_above: Reads the table right above, by address, with what reads tables.
    :param read: Reads tables.
    """

    def __init__(
        self,
        format_: TableFormat,
        read_above: Callable[[int, _ReadTable], bytes],
        read: _ReadTable,
    ) -> None:
        self.known: Dict[int, int] = {}
        """Physical addresses of those found, by a number of the caller's."""
        self._format = format_
        self._entry = struct.Struct(f"{format_.order}Q")
        self._read_above, self._read = read_above, read
        self._above: Dict[int, bytes] = {}
        """By the upper bits of what they translate."""
        self._seen: Dict[Tuple[int, ...], bytes] = {}
        """All that was read to find them."""
        self._above_shift, self._shift = (format_.bits, *format_.shifts)[-3:-1]
        valid, link = format_.valid, format_.link
        self._link_mask, self._link = valid.mask | link.mask, valid.value | link.value
        """Bits of entries that lead to a table."""

    def find(self, address: int) -> int:
        """
        Return where the table is that translates an address.

        :raises FaultError: if there is none that can be found.
        """
        number = address >> self._above_shift
        if number not in self._above:
            self._above[number] = self._read_above(address, self._read_and_keep)
        above = self._above[number]
        place = (address >> self._shift << ENTRY_SHIFT) & (len(above) - 1)
        [entry] = self._entry.unpack_from(above, place)
        if entry & self._link_mask != self._link:
            raise FaultError("no table of pages", address)
        return self._format.table(entry)

    def _read_and_keep(self, *where: int) -> bytes:
        self._seen[where] = data = self._read(*where)
        return data

    def renew(self) -> None:
        """Forget all that are known, unless all that led to them says the same as before."""
        if not self._is_as_before():
            self.known.clear()
            self._above.clear()
            self._seen.clear()

    def _is_as_before(self) -> bool:
        if len(self._seen) > _MOST_COMPARED:
            return False
        try:
            return all(self._read(*where) == data for where, data in self._seen.items())
        except FaultError:
            return False  # Whoever reads there is told.


def _quickest(clocks: Iterable[Callable[[], float]]) -> Callable[[], float]:
    """Return the clock that takes least to be looked at."""
    return min(clocks, key=lambda clock: min(repeat(clock, number=8, repeat=8)))


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
