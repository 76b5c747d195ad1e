# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
/proc/kcore
-----------

The file itself (fs/proc/kcore.c): an ELF core whose program headers say at which
offset virtual addresses are, and which of them are RAM. It is read here, and not
through drgn, so that it is known which reads went through one descriptor, and in
which order.
"""

import os
from typing import List, NamedTuple, Optional

from ..._numpy import Array, U64Array, np
from ...errors import TargetError
from .elf_loads import read_elf_loads

__all__ = ("NOWHERE", "Kcore", "Space")

NOWHERE = -1
"""Stands for the offset of what is not in the file."""

_MOST_OF_RAM = 16
"""At most one part in so many of RAM are its struct pages: 256 bytes of 4 KiB."""


class Space(NamedTuple):
    """Addresses that lie in the file in one piece."""

    start: int
    size: int
    offset: int
    """Where in the file; below 0, where nothing is read, as of riscv's vmalloc space."""


class Kcore:
    """
    /proc/kcore, opened by itself: a context manager that closes it.

    :param page_size: Bytes of a page; nothing is read but whole pages.
    :raises TargetError: if it cannot be opened or makes no sense.
    """

    def __init__(self, page_size: int, path: str = "/proc/kcore") -> None:
        self._page_size = page_size
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise TargetError(
                f"{path} cannot be opened ({e.strerror}): "
                "run it as root, and not under lockdown=confidentiality"
            ) from e
        try:
            loads = read_elf_loads(self._fd)
        except (OSError, ValueError) as e:
            os.close(self._fd)
            raise TargetError(f"{path} is no ELF core: is /proc mounted?") from e
        self._virtual = _Segments(loads["vaddr"], loads["memsz"], loads["offset"])
        # Since Linux kernel commit 464920104bf7 ("/proc/kcore: update physical
        # address for kcore ram and text") (in v4.11), what is no RAM has all ones.
        is_ram = loads["paddr"] != np.iinfo(loads["paddr"].dtype).max
        in_ram = loads[is_ram]
        self._ram = _Segments(in_ram["paddr"], in_ram["memsz"], in_ram["offset"])
        self._mapped = loads[~is_ram & ~_is_of_struct_pages(loads["memsz"], is_ram)]

    def __enter__(self) -> "Kcore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def virtual_offsets(self, addresses: U64Array) -> Array:
        """Return where the pages at virtual addresses are in the file."""
        return self._virtual.offsets(addresses, self._page_size)

    def ram_offsets(self, addresses: U64Array) -> Array:
        """Return where the pages at physical addresses are, if these are RAM."""
        return self._ram.offsets(addresses, self._page_size)

    def mapped_spaces(self) -> List[Space]:
        """
        Return what is read by way of mappings: vmalloc space, and where modules lie if that
        is elsewhere. Page tables alone tell what is there.
        """
        offsets = self._mapped["offset"].astype(np.int64)
        return [
            Space(int(load["vaddr"]), int(load["memsz"]), int(offset))
            for load, offset in zip(self._mapped, offsets)
        ]

    def read(self, offsets: Array, into: Array) -> Array:
        """
        Read pages in order, as many at a time as lie one behind the other.

        :param into: Gets a row a page; of those that cannot be read it means nothing.
        :return: Which pages could be read.
        """
        ok = offsets != NOWHERE
        buffer = into.reshape(-1).view(np.uint8).data
        wanted = np.flatnonzero(ok)
        follows = (np.diff(wanted) == 1) & (np.diff(offsets[wanted]) == self._page_size)
        ends = np.append(np.flatnonzero(~follows) + 1, len(wanted))
        begin = 0
        for end in ends.tolist() if len(wanted) else []:
            first, last = int(wanted[begin]), int(wanted[end - 1])
            self._read_run(int(offsets[first]), buffer, ok, first, last)
            begin = end
        return ok

    def read_page(self, offset: int) -> Optional[bytes]:
        """Return the page at an offset, or None if it cannot be read."""
        try:
            page = os.pread(self._fd, self._page_size, offset)
        except OSError:
            return None
        return page if len(page) == self._page_size else None

    def read_bytes(self, offset: int, count: int) -> bytes:
        """
        Return bytes that lie in one piece, fewer if there the file ends.

        :raises OSError: if they cannot be read.
        """
        data = b""
        while len(data) < count:
            part = os.pread(self._fd, count - len(data), offset + len(data))
            if not part:
                break
            data += part
        return data

    def _read_run(
        self, offset: int, buffer: memoryview, ok: Array, first: int, last: int
    ) -> None:
        """Read the pages from ``offset`` on into rows, and note which are not there."""
        size, at = self._page_size, first
        while at <= last:
            rows = buffer[at * size : (last + 1) * size]
            try:
                got = os.preadv(self._fd, [rows], offset + (at - first) * size)
            except OSError:
                got = 0
            at += got // size
            if at <= last:
                # The kernel stopped before or within this page.
                ok[at] = False
                at += 1


def _is_of_struct_pages(sizes: Array, is_ram: Array) -> Array:
    """
    Return which program headers are of struct pages. They are no RAM, but each comes
    right behind the RAM that it is of (kcore_ram_list()).
    """
    found = np.zeros(len(sizes), bool)
    found[1:] = is_ram[:-1] & ~is_ram[1:]
    found[1:] &= sizes[1:] <= sizes[:-1] // _MOST_OF_RAM
    return found


class _Segments:
    """Ranges of addresses and where they begin in a file."""

    def __init__(self, start: U64Array, size: U64Array, offset: U64Array) -> None:
        order = np.lexsort((np.iinfo(np.uint64).max - size.astype(np.uint64), start))
        start, size = start[order].astype(np.uint64), size[order].astype(np.uint64)
        # The kernel's text is RAM once more: what lies within another one goes.
        last = start + size - np.uint64(1)
        before = np.maximum.accumulate(last)
        keep = np.append([True], last[1:] > before[:-1])[: len(start)]
        self._start, self._last = start[keep], last[keep]
        self._offset = offset[order].astype(np.int64)[keep]

    def offsets(self, addresses: U64Array, size: int) -> Array:
        """Return the offset of the bytes at each address, NOWHERE if not all there."""
        if not len(self._start):
            return np.full(len(addresses), NOWHERE, np.int64)
        at = np.searchsorted(self._start, addresses, side="right") - 1
        inside = addresses - self._start[at]
        # VMALLOC_END is the last byte of the range on x86, and taken for the end.
        there = (at >= 0) & (addresses + np.uint64(size - 2) <= self._last[at])
        offset: Array = np.where(
            there, self._offset[at] + inside.astype(np.int64), NOWHERE
        )
        return offset
