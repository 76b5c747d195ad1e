# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Dumped memory
-------------

Which physical memory is in a vmcore, and all of it piece by piece, for those who look for
something that nothing leads to.
"""

import os
from contextlib import suppress
from typing import Callable, Iterable, Iterator, List, Sequence, Tuple

from ..._numpy import Array, U64Array, np
from ...errors import Fault
from ..types.torn_reads import join_ranges
from .bulk import Memory
from .elf_loads import read_elf_loads
from .kdump_files import SENSELESS, KdumpFile

__all__ = ("bounds", "dumped_ranges", "named_ranges", "read_pieces", "within")

_PIECE_BYTES = 4 << 20

_Range = Tuple[int, int]
"""Physical addresses: where it begins and ends."""


def dumped_ranges(files: Sequence[str]) -> List[_Range]:
    """
    Return which physical memory ELF cores and kdump files say that they have.

    :param files: Those that a program may have opened.
    :return: Of each file in ascending order, with something in between; none if no file is
        one.
    """
    return [*_ranges(files, _bytes_there), *_ranges_of_kdump(files)]


def named_ranges(files: Sequence[str]) -> List[_Range]:
    """Return what ELF cores say that there was, of which they may have no bytes."""
    return _ranges(files, lambda loads, file_size: loads["memsz"])


def bounds(ranges: Sequence[_Range]) -> U64Array:
    """Return where ranges begin, and where they end, as :func:`within` takes them."""
    rows: U64Array = np.array(ranges, np.uint64).reshape(-1, 2)
    return np.ascontiguousarray(rows.T)


def within(bounds: U64Array, addresses: U64Array) -> Array:
    """
    Return which addresses are in any of some ranges.

    :param bounds: Of ascending ones.
    """
    starts, ends = bounds
    if not len(starts):
        return np.zeros(len(addresses), bool)
    at = np.searchsorted(starts, addresses, side="right") - 1
    found: Array = (at >= 0) & (addresses < ends[at])
    return found


def _ranges(
    files: Sequence[str], size_of: Callable[[Array, int], Array]
) -> List[_Range]:
    """
    Return where the segments of ELF cores are.

    :param size_of: Returns the bytes of each, given program headers and the file's size.
    """
    found: List[_Range] = []
    for name in _unique(files):
        with suppress(OSError, ValueError), open(name, "rb") as file:
            loads = read_elf_loads(file.fileno())
            size = size_of(loads, os.fstat(file.fileno()).st_size)
            found += join_ranges(sorted(_segments(loads["paddr"], size)))
    return found


def _ranges_of_kdump(files: Sequence[str]) -> List[_Range]:
    found: List[_Range] = []
    for name in _unique(files):
        with suppress(*SENSELESS), open(name, "rb") as file:
            found += join_ranges(KdumpFile(file.fileno()).ranges())
    return found


def _unique(files: Sequence[str]) -> Iterable[str]:
    """Return each file once: one may be open twice."""
    return {_identity(name): name for name in filter(os.path.isfile, files)}.values()


def _identity(name: str) -> Tuple[int, int]:
    found = os.stat(name)
    return found.st_dev, found.st_ino


def _bytes_there(loads: Array, file_size: int) -> Array:
    # Of a file that ends early, the rest is not there.
    room = np.maximum(file_size - loads["offset"].astype(np.float64), 0)
    there: Array = np.minimum(loads["filesz"], room).astype(np.uint64)
    return there


def _segments(starts: U64Array, sizes: U64Array) -> Iterator[_Range]:
    there = (sizes > 0) & (starts + sizes - np.uint64(1) >= starts)
    for start, size in zip(starts[there].tolist(), sizes[there].tolist()):
        yield start, start + size


def read_pieces(
    memory: Memory, ranges: Iterable[_Range], word_size: int, overlap: int
) -> Iterator[Tuple[int, bytes]]:
    """
    Yield all that can be read of some physical memory, where it begins at a word.

    :param memory: Physical memory.
    :param overlap: Bytes at the end of a piece that the next one begins with, so that
        nothing of that size is cut in two.
    """
    for start, end in ranges:
        start = -(-start // word_size) * word_size
        for at in range(start, end, _PIECE_BYTES):
            stop = min(at + _PIECE_BYTES + overlap, end)
            yield from _read_runs(memory, at, stop)


def _read_runs(memory: Memory, start: int, end: int) -> Iterator[Tuple[int, bytes]]:
    """Yield a piece, or the runs of pages that are left of it."""
    try:
        yield start, memory.read(start, end - start)
        return
    except Fault:
        pass
    size = memory.page_size
    run: List[bytes] = []
    begin = start
    for at in (start, *range((start // size + 1) * size, end, size)):
        stop = min((at // size + 1) * size, end)
        try:
            run.append(memory.read(at, stop - at))
        except Fault:
            if run:
                yield begin, b"".join(run)
            run, begin = [], stop
    if run:
        yield begin, b"".join(run)
