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
from typing import Iterable, Iterator, List, Sequence, Tuple

from ..._numpy import np
from ...errors import Fault
from ..types.torn_reads import join_ranges
from .bulk import Memory
from .elf_loads import read_elf_loads

__all__ = ("dumped_ranges", "read_pieces")

_PIECE_BYTES = 4 << 20

_Range = Tuple[int, int]
"""Physical addresses: where it begins and ends."""


def dumped_ranges(files: Sequence[str]) -> List[_Range]:
    """
    Return which physical memory ELF cores say that they have.

    :param files: Those that a program may have opened.
    :return: Of each file in ascending order, with something in between; none if no file is
        one.
    """
    found: List[_Range] = []
    # One file may be open twice.
    unique = {_identity(name): name for name in filter(os.path.isfile, files)}
    for name in unique.values():
        with suppress(OSError, ValueError), open(name, "rb") as file:
            found += join_ranges(sorted(_loaded(file.fileno())))
    return found


def _identity(name: str) -> Tuple[int, int]:
    found = os.stat(name)
    return found.st_dev, found.st_ino


def _loaded(fd: int) -> Iterator[_Range]:
    loads = read_elf_loads(fd)
    # Of a file that ends early, the rest is not there.
    room = np.maximum(os.fstat(fd).st_size - loads["offset"].astype(np.float64), 0)
    size = np.minimum(loads["filesz"], room).astype(np.uint64)
    last = loads["paddr"] + size - np.uint64(1)
    there = (size > 0) & (last >= loads["paddr"])
    for start, bytes_ in zip(loads["paddr"][there].tolist(), size[there].tolist()):
        yield start, start + bytes_


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
