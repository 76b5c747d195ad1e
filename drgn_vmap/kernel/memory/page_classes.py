# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Classes of pages
----------------

What each page of RAM is used for, many pages at a time: its struct page is read, and of
what is kernel data the page itself, to see whether it is all zeros.
"""

from functools import lru_cache
from typing import Iterator, List, Sequence, Tuple

from ..._numpy import Array, U64Array, np
from ...model.areas import Problem, ProblemKind
from ...model.mem_usage import PageClass
from .bulk import Memory
from .frames import PageFrames
from .page_marks import PageMarks

__all__ = ("PageClassifier",)

_FRAMES_AT_ONCE = 1 << 16
"""No free block is larger, and each is aligned to its own size."""
_KEPT = 1 << 10
"""How often so many frames' classes are kept for who asks for single ones: 64 MiB."""
_BYTES_AT_ONCE = 8 << 20
_MAX_COMPOUND = 1 << 24
"""More pages than a compound page has."""


class PageClassifier:
    """
    Finds the class of pages.

    :param memory: By virtual address.
    :param physical: Memory by physical address.
    """

    def __init__(
        self, marks: PageMarks, frames: PageFrames, memory: Memory, physical: Memory
    ) -> None:
        self._marks = marks
        self._frames = frames
        self._memory = memory
        self._physical = physical
        self._part = lru_cache(_KEPT)(self._read_part)
        self._orders = min(marks.orders, _FRAMES_AT_ONCE.bit_length())
        self._lost = 0
        self._unreadable = 0
        self._damaged = 0

    def classes(self, ranges: Sequence[Tuple[int, int]]) -> Iterator[Tuple[int, Array]]:
        """
        Yield the class of each page, a :class:`PageClass`, many at a time.

        :param ranges: Page frames, from the first one to the first one behind them.
        :return: Pairs of the first frame and the classes from there on.
        """
        for first, end in _pieces(ranges):
            classes = self._by_structs(first, end)
            self._find_zeros(first, classes)
            yield first, classes

    def used_for(self, frames: U64Array) -> Array:
        """
        Return the classes of single pages by their struct pages, which do not tell which of
        KERN_DATA are ZERO. They are not read anew: of a running kernel they may be old.
        """
        size = np.uint64(_FRAMES_AT_ONCE)
        parts, part = np.unique(frames // size, return_inverse=True)
        firsts = (parts * size).tolist()
        classes = [self._part(at) for at in firsts]
        found: Array = np.array(classes)[part, (frames % size).astype(np.intp)]
        return found

    def problems(self, live: bool) -> List[Problem]:
        """
        Return what was wrong with all that was looked at.

        :param live: Whether the kernel runs, and may have changed it meanwhile.
        """
        found, name = [], self._frames.name
        if self._lost:
            detail = f"the struct pages of {self._lost} pages cannot be read: "
            detail += "they have no class"
            found.append(Problem(ProblemKind.UNREADABLE, name, detail))
        if self._unreadable:
            detail = f"{self._unreadable} pages cannot be read: "
            detail += "they count as KERN_DATA, and may be ZERO"
            found.append(Problem(ProblemKind.UNREADABLE, "RAM", detail))
        if self._damaged:
            kind = ProblemKind.RACING if live else ProblemKind.CORRUPT
            detail = f"{self._damaged} struct pages make no sense: "
            detail += "they count as KERN_DATA"
            found.append(Problem(kind, name, detail))
        return found

    def _read_part(self, first: int) -> Array:
        return self._by_structs(first, first + _FRAMES_AT_ONCE)

    def _by_structs(self, first: int, end: int) -> Array:
        """Return the class of each frame by its struct page; ZERO is none yet."""
        frames = np.arange(first, end, dtype=np.uint64)
        records, ok = self._read(frames)
        classes = self._marks.classes(records)
        self._spread_free(records, classes)
        tails = np.flatnonzero(self._marks.is_tail(records))
        pages = self._frames.pages(frames[tails])
        heads = self._marks.heads(pages, records[tails])
        classes[tails] = self._of_heads(frames[tails], heads, first, classes)
        self._memory.forget()
        classes[~ok] = PageClass.UNKNOWN
        self._lost += int((~ok).sum())
        return classes

    def _read(self, frames: U64Array) -> Tuple[Array, Array]:
        return self._memory.records(self._frames.pages(frames), self._marks.record)

    def _spread_free(self, records: Array, classes: Array) -> None:
        """Let the pages of a free block be free: only the first one says so."""
        firsts = np.flatnonzero(classes == PageClass.FREE)
        orders = records["private"][firsts]
        sane = orders < self._orders
        self._damaged += int((~sane).sum())
        classes[firsts[~sane]] = PageClass.KERN_DATA
        firsts, counts = firsts[sane], np.left_shift(1, orders[sane].astype(np.int64))
        steps = np.zeros(len(classes) + 1, np.int64)
        np.add.at(steps, firsts, 1)
        np.add.at(steps, np.minimum(firsts + counts, len(classes)), -1)
        classes[np.cumsum(steps)[:-1] > 0] = PageClass.FREE

    def _of_heads(
        self, frames: U64Array, heads: U64Array, first: int, classes: Array
    ) -> Array:
        """
        Return the classes of tail pages, which are those of their heads.

        :param heads: Addresses of the heads' struct pages.
        :param classes: Of the frames from ``first`` on.
        """
        at = self._frames.of(heads)
        sane = (self._frames.pages(at) == heads) & (at < frames)
        sane &= frames - at < np.uint64(_MAX_COMPOUND)
        self._damaged += int((~sane).sum())
        found = np.full(len(frames), PageClass.KERN_DATA, np.uint8)
        near = np.flatnonzero(sane & (at >= np.uint64(first)))
        found[near] = classes[(at[near] - np.uint64(first)).astype(np.intp)]
        far = np.flatnonzero(sane & (at < np.uint64(first)))
        outside, inverse = np.unique(at[far], return_inverse=True)
        # What follows a head may tell of what kind it is.
        both = np.stack((outside, outside + np.uint64(1)), axis=1).reshape(-1)
        records, _ = self._read(both)
        found[far] = self._marks.classes(records)[::2][inverse]
        return found

    def _find_zeros(self, first: int, classes: Array) -> None:
        """Look at the pages of KERN_DATA; those of zeros become ZERO."""
        left = np.flatnonzero(classes == PageClass.KERN_DATA)
        size = self._physical.page_size
        page = np.dtype(f"V{size}")
        at_once = max(1, _BYTES_AT_ONCE // size)
        for at in range(0, len(left), at_once):
            rows = left[at : at + at_once]
            addresses = (rows.astype(np.uint64) + np.uint64(first)) * np.uint64(size)
            contents, ok = self._physical.records(addresses, page)
            self._physical.forget()
            words = contents.view(np.uint64).reshape(len(rows), -1)
            classes[rows[ok & ~words.any(axis=1)]] = PageClass.ZERO
            self._unreadable += int((~ok).sum())


def _pieces(ranges: Sequence[Tuple[int, int]]) -> Iterator[Tuple[int, int]]:
    """Cut ranges of frames where no free block can lie across."""
    for start, end in ranges:
        while start < end:
            stop = min(end, (start // _FRAMES_AT_ONCE + 1) * _FRAMES_AT_ONCE)
            yield start, stop
            start = stop
