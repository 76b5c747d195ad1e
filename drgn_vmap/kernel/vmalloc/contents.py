# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Contents
--------

What memory holds at any addresses, read by page table and RAM, some at a time. Where the
page table cannot be read, vm_structs tell the pages of areas.
"""

from typing import Callable, Iterator, Tuple

from ..._numpy import Array, U64Array, np
from ...errors import VmapError
from ...model.contents import Piece
from ..memory.dumped import bounds, within
from ..memory.ram import ram_ranges
from ..target import Target
from .area_pages import AreaPages
from .snapshot import take_areas_around

__all__ = ("read_contents",)

_AT_ONCE = 1 << 20

_NOT_MAPPED = "not mapped"
_NO_RAM = "no RAM: a device's memory, which is never read"
_UNREADABLE = "not in this vmcore, or unreadable"
_LEFT_OUT = "left out of this vmcore"
_UNKNOWN = "the page table that maps it is unreadable"


def read_contents(
    target: Target,
    start: int,
    size: int,
    physical: bool,
    on_read: Callable[[int, int], None],
) -> Iterator[Piece]:
    """
    Yield what memory holds, by ascending address, without a gap.

    :param physical: Whether the addresses are physical.
    :param on_read: Called with how many bytes were read, of how many.
    """
    lookup = _same if physical else _Translator(target).translate
    reader = _Reader(target)
    at, end = start, start + size
    while at < end:
        # To where the next part begins, so that all but the ends are whole pages.
        behind = min(end, (at // _AT_ONCE + 1) * _AT_ONCE)
        if not physical:
            mapped = _next_mapped(target, at, end)
            if mapped > behind:
                yield Piece(at, mapped - at, None, _NOT_MAPPED)
                at = mapped
                continue
        yield from reader.pieces(at, behind, lookup)
        at = behind
        on_read(at - start, size)


_Found = Tuple[U64Array, Array, Array]
"""Physical addresses, which are mapped, and of which that is known."""


def _same(addresses: U64Array) -> _Found:
    known = np.ones(len(addresses), bool)
    return addresses, known, known


def _next_mapped(target: Target, start: int, end: int) -> int:
    """Return the first address from one on that tables may map; the end if there is none."""
    page = start - start % target.page_size
    last = -(-end // target.page_size) * target.page_size
    starts, _, problems = target.page_table.mapped_parts(
        np.array([page], np.uint64), np.array([min(last, (1 << 64) - 1)], np.uint64)
    )
    if problems:
        return start
    return max(start, int(starts[0])) if len(starts) else end


class _Translator:
    """Looks addresses up, and asks vm_structs where the page table does not tell."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def translate(self, addresses: U64Array) -> _Found:
        table = self._target.page_table
        table.forget()
        found = table.translate(addresses)
        if not found.known.all():
            snapshot = take_areas_around(self._target, addresses)
            found, _ = AreaPages(self._target, snapshot).complete(addresses, found)
        return found.phys, found.present, found.known


class _Reader:
    """Reads pages of RAM."""

    def __init__(self, target: Target) -> None:
        self._memory = target.physical
        self._page_size = target.page_size
        self._left_out = target.left_out.among
        self._ram = _ram(target) if target.live else None

    def pieces(
        self, start: int, end: int, lookup: Callable[[U64Array], _Found]
    ) -> Iterator[Piece]:
        """Yield what lies from one address to another, what lies together at once."""
        page_size = self._page_size
        pages = range(start - start % page_size, end, page_size)
        phys, present, known = lookup(np.array(pages, np.uint64))
        in_ram = self._is_ram(phys)
        rows, read = self._read(phys, present & known & in_ram, start, end)
        left_out = self._left_out(phys)
        why = np.select(
            [~known, ~present, ~in_ram, ~read, left_out],
            [_UNKNOWN, _NOT_MAPPED, _NO_RAM, _UNREADABLE, _LEFT_OUT],
            "",
        )
        changes = np.flatnonzero(why[1:] != why[:-1]) + 1
        begins = [0, *changes.tolist()]
        for begin, behind in zip(begins, [*begins[1:], len(pages)]):
            first = max(start, pages[begin])
            last = min(end, pages[behind - 1] + page_size)
            missing = str(why[begin])
            data = None
            if not missing:
                skip = first - pages[begin]
                whole: bytes = rows[begin:behind].tobytes()
                data = whole[skip : skip + last - first]
            failed = missing in (_UNKNOWN, _UNREADABLE, _LEFT_OUT)
            yield Piece(first, last - first, data, missing, failed)

    def _read(
        self, phys: U64Array, wanted: Array, start: int, end: int
    ) -> Tuple[Array, Array]:
        """Return a row of bytes a page, and which could be read as far as they are asked."""
        page_size = self._page_size
        rows = np.zeros((len(phys), page_size), np.uint8)
        read = np.zeros(len(phys), bool)
        skip, short = start % page_size, -end % page_size
        # A slice may have just what is asked for of a page.
        partial = {0: skip} if skip else {}
        if short:
            partial.setdefault(len(phys) - 1, 0)
        whole = wanted.copy()
        for row, begin in partial.items():
            whole[row] = False
            if wanted[row]:
                size = page_size - begin - (short if row == len(phys) - 1 else 0)
                first = np.array([int(phys[row]) + begin], np.uint64)
                found, ok = self._memory.records(first, np.dtype(f"V{size}"))
                read[row] = ok[0]
                rows[row, begin : begin + size] = found.view(np.uint8)
        at = np.flatnonzero(whole)
        found, ok = self._memory.records(phys[at], np.dtype(f"V{page_size}"))
        rows[at] = found.view(np.uint8).reshape(-1, page_size)
        read[at] = ok
        self._memory.forget()
        return rows, read

    def _is_ram(self, phys: U64Array) -> Array:
        if self._ram is None:
            return np.ones(len(phys), bool)
        return within(self._ram, phys)


def _ram(target: Target) -> U64Array:
    """Return where RAM begins and ends, for what is elsewhere is a device's."""
    try:
        frames = target.frames.count()
    except VmapError:
        frames = (1 << 64) // target.page_size
    ranges, _ = ram_ranges(target.values, target.memory, frames)
    return bounds(ranges) * np.uint64(target.page_size)
