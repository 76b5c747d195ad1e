# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kdump files
-----------

What the headers of makedumpfile's compressed format say of the file, and which pages are not
in it because it ends too early.
"""

import os
import struct
from typing import BinaryIO, Iterator, Optional, Tuple

from ..._numpy import Array, np

__all__ = ("SENSELESS", "KdumpFile", "names_of_kdump")

SENSELESS = (OSError, OverflowError, ValueError, struct.error)
"""What is raised of other files, and of headers that cannot be."""

_SIGNATURE = b"KDUMP   "

# Of struct disk_dump_header of 64 bits and struct kdump_sub_header, as crash and
# libkdumpfile read them: where each member is, and its type.
_REVISION = 8, "i"
_NAME_BYTES = 65
_NAMES = range(12, 12 + 5 * _NAME_BYTES, _NAME_BYTES)
"""Of struct new_utsname, in which the system is first and the machine fifth."""
_STATUS_AND_BLOCKS = 424, "IiiI"
_IS_SPLIT = 12, "i"
_SPLIT_SINCE = 2
_PART, _PART_64 = (16, "QQ"), (80, "QQ")
"""Of which page frames it has the pages, if it is one of several: the first, and behind."""
_PART_64_SINCE = 6
_MOST_REVISIONS = 1 << 16
_INCOMPLETE = 0x8
"""DUMP_DH_COMPRESSED_INCOMPLETE."""

_DESCRIPTOR_BYTES = 24
_AT_ONCE = 1 << 16
"""Descriptors that are read at once."""
_BITMAP_AT_ONCE = 1 << 20
_BITS = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)

_HEADER_BYTES = 1 << 13
"""Within these, that of a flattened file begins, behind another one."""


def names_of_kdump(file: BinaryIO) -> Optional[Tuple[str, str]]:
    """
    Return which system and which machine the header of a kdump file names, flattened or
    not; None if it has none.

    :raises OSError: if it cannot be read.
    """
    head = file.read(_HEADER_BYTES)
    at = head.find(_SIGNATURE)
    if at < 0:
        return None
    system, *_, machine = (
        head[at + name : at + name + _NAME_BYTES].rstrip(b"\0").decode("latin-1")
        for name in _NAMES
    )
    return system, machine


class KdumpFile:
    """
    The headers of one, and the file behind them.

    :param fd: Open for reading, and kept so.
    :raises ValueError: if it is none.
    :raises struct.error: if it ends within them.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        if os.pread(fd, len(_SIGNATURE), 0) != _SIGNATURE:
            raise ValueError("it does not begin as kdump files do")
        little = 0 < self._read(0, "<", _REVISION)[0] < _MOST_REVISIONS
        self._order = order = "<" if little else ">"
        (revision,) = self._read(0, order, _REVISION)
        status, block, header, bitmaps = self._read(0, order, _STATUS_AND_BLOCKS)
        self.is_incomplete = bool(status & _INCOMPLETE)
        """Whether makedumpfile could not write all of it."""
        self.is_part = (
            revision >= _SPLIT_SINCE and self._read(block, order, _IS_SPLIT)[0] != 0
        )
        """Whether it is one of several, each of which has some pages."""
        part = _PART_64 if revision >= _PART_64_SINCE else _PART
        self._part = self._read(block, order, part) if self.is_part else None
        # The second of two bitmaps says of which page frames there is a descriptor.
        self._table = block * (1 + header + bitmaps)
        self._bitmap = self._table - block * bitmaps // 2
        self._page_size = block

    def ranges(self) -> Iterator[Tuple[int, int]]:
        """Yield from where to where physical memory is in it, ascending."""
        for first, piece in self._bitmap_pieces():
            bits = np.unpackbits(piece, bitorder="little").astype(np.int8)
            edges = np.flatnonzero(np.diff(bits, prepend=0, append=0)) + first
            for start, end in (edges.reshape(-1, 2) * self._page_size).tolist():
                yield start, end

    def lost_from(self) -> Optional[int]:
        """
        Return the first page frame whose page is behind the end of the file.

        :return: None if there is none. Pages are written in the order of their frames.
        """
        if self._size < self._table:
            return 0
        count = sum(int(_BITS[piece].sum()) for _, piece in self._bitmap_pieces())
        # Else it would be all of it that has to be read, of a file that is whole.
        if self._first_lost(max(0, count - _AT_ONCE), count) is None:
            return None
        index = self._first_lost(0, count)
        return None if index is None else self._frame(index)

    def _first_lost(self, begin: int, end: int) -> Optional[int]:
        """Return which of some descriptors is the first that is lost, or whose page is."""
        u32, u64 = f"{self._order}u4", f"{self._order}u8"
        names = ("offset", u64), ("size", u32), ("flags", u32), ("page_flags", u64)
        dtype = np.dtype(list(names))
        for at in range(begin, end, _AT_ONCE):
            wanted = min(_AT_ONCE, end - at)
            data = os.pread(
                self._fd,
                wanted * _DESCRIPTOR_BYTES,
                self._table + at * _DESCRIPTOR_BYTES,
            )
            found = np.frombuffer(data, dtype, len(data) // _DESCRIPTOR_BYTES)
            behind = found["offset"].astype(np.float64) + found["size"]
            lost = np.flatnonzero(behind > self._size)
            if len(lost):
                return at + int(lost[0])
            if len(found) < wanted:
                return at + len(found)
        return None

    def _frame(self, index: int) -> Optional[int]:
        """Return the page frame that a descriptor is of."""
        for first, piece in self._bitmap_pieces():
            count = int(_BITS[piece].sum())
            if index < count:
                bits = np.flatnonzero(np.unpackbits(piece, bitorder="little"))
                return first + int(bits[index])
            index -= count
        return None

    def _bitmap_pieces(self) -> Iterator[Tuple[int, Array]]:
        """Yield the bitmap, with the first frame that each piece of it is about."""
        for at in range(self._bitmap, self._table, _BITMAP_AT_ONCE):
            data = os.pread(self._fd, min(_BITMAP_AT_ONCE, self._table - at), at)
            if not data:
                break
            first = 8 * (at - self._bitmap)
            yield first, self._own(first, np.frombuffer(data, np.uint8))

    def _own(self, first: int, piece: Array) -> Array:
        """Return a piece of the bitmap without what other parts have, as each has all."""
        if self._part is None:
            return piece
        bits = np.unpackbits(piece, bitorder="little")
        begin, end = (max(frame - first, 0) for frame in self._part)
        bits[:begin] = 0
        bits[end:] = 0
        own: Array = np.packbits(bits, bitorder="little")
        return own

    def _read(self, start: int, order: str, what: Tuple[int, str]) -> Tuple[int, ...]:
        offset, form = what
        form = order + form
        size = struct.calcsize(form)
        return struct.unpack(form, os.pread(self._fd, size, start + offset))
