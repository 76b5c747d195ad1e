# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Torn reads
----------

Reads large pieces of a target's memory, less the pages that are lost.
"""

from contextlib import suppress
from typing import Iterable, List, Tuple

from drgn import Program

from ...errors import Fault
from ..doors import door
from .torn import Torn

__all__ = ("join_ranges", "read_torn")

_PAGE = 1 << 12
"""The smallest that pages are: of larger ones, all parts are lost together."""
_GRAIN = 3
"""Bits of the offset in the words that slices are made of."""
_PAGES_AT_ONCE = 64


def read_torn(prog: Program, address: int, size: int) -> Torn:
    """
    Read what can be read.

    :raises Fault: if that is nothing.
    """
    try:
        return Torn(_read(prog, address, size))
    except Fault as e:
        data, lost = bytearray(size), []
        for begin, end in _cut(address, size, _PAGES_AT_ONCE):
            lost += _read_part(prog, address, begin, end, data)
        torn = Torn(bytes(data), tuple(join_ranges(lost)))
        if torn.lost == ((0, size),):
            raise e
        return torn


def _read_part(
    prog: Program, address: int, begin: int, end: int, data: bytearray
) -> List[Tuple[int, int]]:
    """Read a part into its place; return what of it is lost."""
    try:
        data[begin:end] = _read(prog, address + begin, end - begin)
        return []
    except Fault:
        pages = list(_cut(address + begin, end - begin, 1))
        if len(pages) == 1:
            behind = _behind_gap(prog, address, begin, end)
            data[behind:end] = _read(prog, address + behind, end - behind)
            return [(begin, behind)]
        lost = []
        for first, last in pages:
            lost += _read_part(prog, address, begin + first, begin + last, data)
        return lost


def _behind_gap(prog: Program, address: int, begin: int, end: int) -> int:
    """Return from where on a page that is not whole can be read: slices have parts."""
    behind = end
    for size in reversed(range(_GRAIN, _PAGE.bit_length())):
        at = behind - (1 << size)
        with suppress(Fault):
            if at >= begin:
                _read(prog, address + at, behind - at)
                behind = at
    return behind


def _read(prog: Program, address: int, size: int) -> bytes:
    with door():
        return prog.read(address, size)


def _cut(address: int, size: int, pages: int) -> Iterable[Tuple[int, int]]:
    """Yield where parts of so many pages begin and end, counted from an address."""
    step = pages * _PAGE
    at = 0
    while at < size:
        end = min(at + step - (address + at) % step, size)
        yield at, end
        at = end


def join_ranges(ranges: Iterable[Tuple[int, int]]) -> List[Tuple[int, int]]:
    """Make one of those of some ascending ranges that touch or overlap."""
    joined: List[Tuple[int, int]] = []
    for begin, end in ranges:
        if joined and begin <= joined[-1][1]:
            begin, last = joined.pop()
            end = max(end, last)
        joined.append((begin, end))
    return joined
