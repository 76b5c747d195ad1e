# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Memory
------

Bulk reads. Every page is fetched once and kept until :meth:`Memory.forget`;
records are gathered from the pages many at a time. One drgn read a field costs
about 10 microseconds, a gathered record well under one.

Pages are read singly or in short runs of wanted pages only: slab pages lie
between pages of data, so larger reads would pull in most of RAM.
"""

from typing import Tuple

from drgn import FaultError, Program

from .._numpy import Array, Record, U64Array, np

__all__ = ("Memory",)

_RUN_PAGES = 64
_NO_SLOT = -1


class Memory:
    """
    The pages of a target that were asked for.

    :param prog: Program to read from.
    :param page_size: Bytes of a page; reads never cross into unwanted pages.
    :param physical: Whether addresses are physical.
    """

    def __init__(self, prog: Program, page_size: int, physical: bool = False) -> None:
        self.prog = prog
        self.page_size = page_size
        self.physical = physical
        self.forget()

    def forget(self) -> None:
        """Drop all pages, so that what is read next is read anew."""
        self._pages: U64Array = np.empty(0, np.uint64)
        self._slots = np.empty(0, np.int64)
        self._data = np.empty((0, self.page_size), np.uint8)
        self._used = 0

    def gather(self, addresses: U64Array, size: int) -> Tuple[Array, Array]:
        """
        Read ``size`` bytes at each address.

        :param size: Bytes, one page at most.
        :return: Array of one row of bytes an address, and which rows could be
            read; the others are zero.
        """
        first, offset = np.divmod(addresses, np.uint64(self.page_size))
        last = (addresses + np.uint64(size - 1)) // np.uint64(self.page_size)
        pages, inverse = np.unique(np.concatenate((first, last)), return_inverse=True)
        slots = self._load(pages)[inverse]
        first_slot, last_slot = slots[: len(first)], slots[len(first) :]
        # An address so high that its end wraps around is no address.
        ok = (first_slot != _NO_SLOT) & (last_slot != _NO_SLOT) & (last >= first)

        rows = np.zeros((len(addresses), size), np.uint8)
        whole = ok & (first == last)
        if whole.any():
            windows = np.lib.stride_tricks.sliding_window_view(
                self._data.reshape(-1), size
            )
            at = first_slot[whole] * self.page_size + offset[whole].astype(np.int64)
            rows[whole] = windows[at]
        for row in np.flatnonzero(ok & (first != last)):
            split = self.page_size - int(offset[row])
            rows[row, :split] = self._data[first_slot[row], int(offset[row]) :]
            rows[row, split:] = self._data[last_slot[row], : size - split]
        return rows, ok

    def records(self, addresses: U64Array, dtype: Record) -> Tuple[Array, Array]:
        """
        Read a record of the given dtype at each address.

        :return: Array of records, and which of them could be read.
        """
        rows, ok = self.gather(addresses, dtype.itemsize)
        return rows.view(dtype).reshape(-1), ok

    def array(self, address: int, count: int, dtype: Record) -> Array:
        """
        Read an array that lies in one piece, without keeping its pages.

        :raises FaultError: if part of it cannot be read.
        """
        data = self.prog.read(address, count * dtype.itemsize, self.physical)
        return np.frombuffer(data, dtype)

    def _load(self, pages: U64Array) -> Array:
        """Return the slot of each of these sorted pages, reading what is new."""
        new = pages[~np.isin(pages, self._pages, assume_unique=True)]
        if len(new):
            slots = self._read_new(new)
            self._pages = np.concatenate((self._pages, new))
            self._slots = np.concatenate((self._slots, slots))
            order = np.argsort(self._pages, kind="stable")
            self._pages, self._slots = self._pages[order], self._slots[order]
        found: Array = self._slots[np.searchsorted(self._pages, pages)]
        return found

    def _read_new(self, pages: U64Array) -> Array:
        """Read pages into new slots and return these."""
        self._reserve(len(pages))
        slots = np.full(len(pages), _NO_SLOT, np.int64)
        ends = np.append(np.flatnonzero(np.diff(pages) != 1) + 1, len(pages))
        begin = 0
        for end in ends.tolist():
            for at in range(begin, end, _RUN_PAGES):
                self._read_run(pages, slots, at, min(at + _RUN_PAGES, end))
            begin = end
        return slots

    def _read_run(self, pages: U64Array, slots: Array, begin: int, end: int) -> None:
        """Read adjacent pages; where that faults, each by itself."""
        size = (end - begin) * self.page_size
        try:
            address = int(pages[begin]) * self.page_size
            data = self.prog.read(address, size, self.physical)
        except (FaultError, ValueError, OverflowError):
            if end - begin > 1:
                for at in range(begin, end):
                    self._read_run(pages, slots, at, at + 1)
            return
        used = self._used
        self._data[used : used + end - begin] = np.frombuffer(data, np.uint8).reshape(
            -1, self.page_size
        )
        slots[begin:end] = np.arange(used, used + end - begin)
        self._used += end - begin

    def _reserve(self, count: int) -> None:
        """Make room for ``count`` more pages."""
        if self._used + count > len(self._data):
            data = np.empty(
                (max(self._used + count, 2 * len(self._data)), self.page_size), np.uint8
            )
            data[: self._used] = self._data[: self._used]
            self._data = data
