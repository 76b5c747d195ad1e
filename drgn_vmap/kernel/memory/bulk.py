# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Memory
------

Bulk reads, and the door by which a target's bytes enter; of pointers, tags stay outside.
Every page is fetched once and kept until :meth:`Memory.forget`; records are gathered from
the pages many at a time. One drgn read a field costs about 10 microseconds, a gathered
record well under one.

Pages are read singly or in short runs of wanted pages only: slab pages lie
between pages of data, so larger reads would pull in most of RAM. Of pages that
a slice has only in part, each record is read by itself.
"""

from typing import List, Optional, Tuple

from drgn import FaultError, Program

from ..._drgn import read_c_string
from ..._numpy import Array, Record, U64Array, np, spread
from ...errors import Fault
from ..doors import UNREADABLE, door, tags_of

__all__ = ("Memory",)

_RUN_PAGES = 64
_ROWS_AT_ONCE = 1 << 15
_MAX_BYTES = 256 << 20
"""More bytes than anything has that is read in one piece: an array, a symbol table."""
_UNREADABLE = 0
"""Slot of a page of zeros that stands for all pages that cannot be read."""


class Memory:
    """
    A target's memory. Pages that records were read from are kept until forgotten.

    :param prog: Program to read from.
    :param page_size: Bytes of a page; reads never cross into unwanted pages.
    :param direct_map: Virtual address of physical address 0, if what lies behind it is
        to be read by physical address.
    :param physical: Whether addresses are physical.
    :param exact: Whether pages may be there in part, as in a slice: then nothing is read
        but what is asked for, and nothing kept.
    """

    def __init__(
        self,
        prog: Program,
        page_size: int,
        direct_map: Optional[int] = None,
        physical: bool = False,
        exact: bool = False,
    ) -> None:
        self._prog = prog
        self.tags = tags_of(prog)
        self.page_size = page_size
        self.physical = physical
        self._page_shift = np.uint64(page_size.bit_length() - 1)
        self._direct_map = direct_map
        self._exact = exact
        self.forget()

    def forget(self) -> None:
        """Drop all pages, so that what is read next is read anew."""
        self._pages: U64Array = np.empty(0, np.uint64)
        self._slots = np.empty(0, np.int64)
        self._data = np.zeros((1, self.page_size), np.uint8)
        self._used = 1

    def refresh(self) -> None:
        """Read all pages that are kept once more: a live kernel's nearly at once."""
        pages = self._pages
        self.forget()
        self._load(pages)

    def records(self, addresses: U64Array, dtype: Record) -> Tuple[Array, Array]:
        """
        Read a record at each address; it is quickest if they ascend.

        :param dtype: Of one page at most.
        :return: Array of records, and which of them could be read; the others are
            zero.
        """
        size = dtype.itemsize
        order = None
        if (addresses[1:] < addresses[:-1]).any():
            order = np.argsort(addresses)
            addresses = addresses[order]
        gather = self._read_apart if self._exact else self._gather
        if not self._exact:
            self._load(self._pages_of(addresses, size))
        # As plain bytes: numpy copies structs field by field.
        rows = np.empty(len(addresses), f"V{size}")
        ok = np.empty(len(addresses), bool)
        for at in range(0, len(addresses), _ROWS_AT_ONCE):
            part = slice(at, at + _ROWS_AT_ONCE)
            to = part if order is None else order[part]
            rows[to], ok[to] = gather(addresses[part], size)
        return self.tags.off_records(rows.view(dtype)), ok

    def record(self, address: int, dtype: Record) -> Array:
        """
        Read one record.

        :raises Fault: if it cannot be read.
        """
        found, ok = self.records(np.array([address % (1 << 64)], np.uint64), dtype)
        if not ok[0]:
            raise Fault(f"{dtype.itemsize} bytes at {address:#x}")
        return found[0]

    def array(self, address: int, count: int, dtype: Record) -> Array:
        """
        Read an array that lies in one piece, without keeping its pages.

        :raises Fault: if part of it cannot be read.
        """
        return self.records_in(self.read(address, count * dtype.itemsize), dtype, count)

    def records_in(
        self, data: bytes, dtype: Record, count: int, offset: int = 0
    ) -> Array:
        """Return the records in bytes that were read."""
        return self.tags.off_records(np.frombuffer(data, dtype, count, offset))

    def read(self, address: int, size: int) -> bytes:
        """
        Read bytes that lie in one piece, without keeping their pages.

        :raises Fault: if one of them cannot be read.
        """
        if not 0 <= size <= _MAX_BYTES:
            raise Fault(f"{size} bytes at {address:#x} cannot be")
        with door():
            return self._prog.read(address, size, self.physical)

    def pointer(self, address: int) -> int:
        """
        Read a pointer anew.

        :raises Fault: if it cannot be read.
        """
        with door():
            return self.tags.off(self._prog.read_word(address, self.physical))

    def string(self, address: int, longest: int) -> bytes:
        """
        Read a string that a zero ends.

        :param longest: Bytes after which it ends in any case.
        :raises Fault: if it cannot be read.
        """
        with door():
            return read_c_string(self._prog, address, self.physical, longest)

    def _pages_of(self, addresses: U64Array, size: int) -> U64Array:
        """Return the numbers of the pages that hold bytes at ascending addresses."""
        first, _ = self._split(addresses)
        last, _ = self._split(addresses + np.uint64(size - 1))
        pages = np.concatenate((first, last[last != first]))
        # These are two ascending parts, which this kind of sorting just merges.
        pages.sort(kind="stable")
        return pages[np.append(pages[:-1] != pages[1:], True)[: len(pages)]]

    def _read_apart(self, addresses: U64Array, size: int) -> Tuple[Array, Array]:
        """Read rows of bytes and nothing around them; those that adjoin at once."""
        unique, row = np.unique(addresses, return_inverse=True)
        data = bytearray(len(unique) * size)
        ok = np.ones(len(unique), bool)
        adjoins = np.diff(unique) == np.uint64(size)
        begins = np.flatnonzero(np.append(True, ~adjoins)[: len(unique)])
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(unique)]):
            try:
                whole = self._bytes(int(unique[begin]), (end - begin) * size)
                data[begin * size : end * size] = whole
            except UNREADABLE:
                for at in range(begin, end):
                    place = slice(at * size, (at + 1) * size)
                    ok[at] = self._read_into(int(unique[at]), data, place)
        rows: Array = np.frombuffer(data, f"V{size}")
        return rows[row], ok[row]

    def _read_into(self, address: int, data: bytearray, place: slice) -> bool:
        """Read bytes, if they can be read; return whether that is so."""
        try:
            data[place] = self._bytes(address, place.stop - place.start)
        except UNREADABLE:
            return False
        return True

    def _gather(self, addresses: U64Array, size: int) -> Tuple[Array, Array]:
        """Copy a row of bytes at each address from pages that are kept; say which are."""
        page, offset = self._split(addresses)
        slot = self._slots_of(page)
        begin = slot * self.page_size + offset.astype(np.int64)
        across = np.flatnonzero(offset + np.uint64(size) > np.uint64(self.page_size))
        begin[across] = 0
        count = self._used * self.page_size - size + 1
        windows: Array = np.ndarray(count, f"V{size}", self._data, strides=(1,))
        rows, ok = windows[begin], slot != _UNREADABLE
        if len(across):
            rows[across], ok[across] = self._gather_bytes(addresses[across], size)
        return rows, ok

    def _gather_bytes(self, addresses: U64Array, size: int) -> Tuple[Array, Array]:
        """Copy rows that lie across pages, byte by byte; say of which all is kept."""
        steps: U64Array = np.arange(size, dtype=np.uint64)
        address = addresses[:, np.newaxis] + steps
        page, offset = self._split(address)
        slot = self._slots_of(page)
        # An address so high that its end wraps around is no address.
        ok = (slot != _UNREADABLE).all(axis=1) & (address[:, -1] > addresses)
        slot[~ok] = _UNREADABLE
        rows = self._data[slot, offset]
        return rows.view(f"V{size}").reshape(-1), ok

    def _split(self, addresses: U64Array) -> Tuple[U64Array, U64Array]:
        """Return the number of each address's page, and the offset in it."""
        # A page's size is a power of two, and this is quicker than dividing.
        inside = np.uint64(self.page_size - 1)
        return addresses >> self._page_shift, addresses & inside

    def _slots_of(self, pages: U64Array) -> Array:
        slots: Array = self._slots[np.searchsorted(self._pages, pages)]
        return slots

    def _load(self, pages: U64Array) -> None:
        """Read the pages of these ascending numbers that are not kept yet."""
        new = pages[~np.isin(pages, self._pages, assume_unique=True)]
        if len(new):
            slots = self._read(new)
            self._pages = np.concatenate((self._pages, new))
            self._slots = np.concatenate((self._slots, slots))
            order = np.argsort(self._pages, kind="stable")
            self._pages, self._slots = self._pages[order], self._slots[order]

    def _read(self, pages: U64Array) -> Array:
        """Read pages into new slots; return the slot of each."""
        self._reserve(len(pages))
        slots = self._used + np.arange(len(pages))
        buffer = self._data[self._used :].reshape(-1).data
        begins, ends = _runs(pages)
        addresses = (pages[begins] * np.uint64(self.page_size)).tolist()
        places = (begins * self.page_size).tolist()
        sizes = ((ends - begins) * self.page_size).tolist()
        for address, at, size in zip(addresses, places, sizes):
            try:
                buffer[at : at + size] = self._bytes(address, size)
            except UNREADABLE:
                lost = self._read_singly(address, buffer[at : at + size])
                slots[np.array(lost, np.int64) + at // self.page_size] = _UNREADABLE
        self._used += len(pages)
        return slots

    def _read_singly(self, address: int, buffer: memoryview) -> List[int]:
        """Read adjacent pages that fault together; return the index of each that does."""
        if len(buffer) == self.page_size:
            return [0]
        lost = []
        for index, at in enumerate(range(0, len(buffer), self.page_size)):
            try:
                page = self._bytes(address + at, self.page_size)
            except UNREADABLE:
                lost.append(index)
            else:
                buffer[at : at + self.page_size] = page
        return lost

    def _bytes(self, address: int, size: int) -> bytes:
        if address + size > 1 << 64:
            raise OverflowError("no address is so high that its end wraps around")
        if self._direct_map is not None and address >= self._direct_map:
            try:
                return self._prog.read(address - self._direct_map, size, True)
            except FaultError:
                # It lies behind the direct map, or nowhere.
                pass
        return self._prog.read(address, size, self.physical)

    def _reserve(self, count: int) -> None:
        """Make room for ``count`` more pages."""
        if self._used + count > len(self._data):
            # Room that is not used costs no memory, moving to another place does.
            room = max(self._used + count, 4 * len(self._data))
            data = np.empty((room, self.page_size), np.uint8)
            data[: self._used] = self._data[: self._used]
            self._data = data


def _runs(pages: U64Array) -> Tuple[Array, Array]:
    """Return where among ascending pages each run of adjacent ones begins and ends."""
    begins = np.flatnonzero(np.append(True, np.diff(pages) != 1))
    length = np.diff(np.append(begins, len(pages)))
    # A long run is read in parts.
    run, part = spread(-(-length // _RUN_PAGES))
    begins = begins[run] + part * _RUN_PAGES
    return begins, np.append(begins[1:], len(pages))
