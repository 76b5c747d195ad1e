# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Until it is certain
-------------------

Looks at pages in both views until the class of each is certain. A page that is as it
should be is looked at once. Any other is read again by itself, with a primer before
it; what this kernel does not explain, also a while later, as it may have been caught
amidst a change; and its area must still be there afterwards.
"""

from typing import Callable, Iterator, Protocol, Tuple

from .._numpy import Array, U64Array, np
from ..model.areas import Snapshot, State
from ..model.kcore import KcoreRules, Look, PageClass
from .check import NO_PAGE, Pages, Targets, classify, find_sources, is_unsure

__all__ = ("Measurer", "Views")

_MAX_SOURCE_PAGES = 1024
"""Where bytes came from is looked for among so many pages of an area: all of a block."""
_PAUSES = (0.0, 0.0, 0.001, 0.01, 0.05, 0.2)
"""Seconds before each look after the first."""
_MAX_WAITS = 16
"""Batches that are waited for; a kernel that is wrong all over is not in transition."""
_BAD = [c for c in PageClass if c.is_bad]


class Views(Protocol):
    """What :class:`drgn_vmap.kernel.memory.views.TwoViews` does."""

    def look(self, addresses: U64Array, untouched: Array) -> Look:
        """Look at pages, one after the other."""

    def look_primed(self, addresses: U64Array, untouched: Array, unlike: Array) -> Look:
        """Look at pages, with a primer before each."""

    def memory(self, addresses: U64Array) -> Tuple[Array, Array]:
        """Return what memory holds, and where there is any."""


class Measurer:
    """
    Measures batches of pages.

    :param areas_now: Reads the areas around addresses anew.
    :param wait: Waits so many seconds.
    """

    def __init__(
        self,
        targets: Targets,
        rules: KcoreRules,
        views: Views,
        areas_now: Callable[[U64Array], Snapshot],
        wait: Callable[[float], None],
    ) -> None:
        self._targets = targets
        self._rules = rules
        self._views = views
        self._areas_now = areas_now
        self._wait = wait
        self._waits = 0

    def measure(self, pages: Pages) -> Tuple[Array, Look, Array]:
        """Return the class of each page, the first look, and whose bytes came."""
        look = self._views.look(pages.address, pages.untouched)
        classes = classify(pages, look, primed=False)
        source = np.full(len(classes), NO_PAGE, np.int64)
        rows = np.flatnonzero(is_unsure(look, classes, self._rules))
        if len(rows):
            kcore = look.kcore[rows]
            found = self._settle(pages.take(rows), classes[rows], kcore)
            classes[rows], source[rows] = found
        gone = self._gone(pages, classes, source)
        classes[gone], source[gone] = PageClass.RACED, NO_PAGE
        return classes, look, source

    def _settle(self, pages: Pages, before: Array, kcore: Array) -> Tuple[Array, Array]:
        """Look again until each class is certain, or the time is up."""
        classes = np.full(len(before), PageClass.RACED, np.uint8)
        source = np.full(len(before), NO_PAGE, np.int64)
        rows = np.arange(len(before))
        waited = False
        for pause in _PAUSES:
            if pause:
                if self._waits >= _MAX_WAITS or (before == PageClass.RACED).all():
                    break
                waited = True
                self._wait(pause)
            some = pages.take(rows)
            look = self._views.look_primed(some.address, some.untouched, kcore)
            now = classify(some, look, primed=True)
            found = self._sources(some, now, look.kcore)
            bad = np.isin(now, _BAD)
            agrees = ~bad | (now == before) | (now == PageClass.STALE)
            agrees &= now != PageClass.RACED
            classes[rows] = np.where(agrees, now, PageClass.RACED)
            source[rows] = np.where(agrees, found, NO_PAGE)
            again = ~(agrees & (~bad | self._explained(some, now, found)))
            if not again.any():
                break
            rows, before, kcore = rows[again], now[again], look.kcore[again]
        self._waits += waited
        return classes, source

    def _explained(self, pages: Pages, classes: Array, source: Array) -> Array:
        """Whether this kernel is bound to get a page wrong, race or no race."""
        unread = self._targets.is_ram[pages.row] & (not self._rules.reads_ram)
        explained: Array = (
            (classes == PageClass.STALE)
            | (source != NO_PAGE)
            | (unread & (classes == PageClass.ZERO))
        )
        return explained

    def _sources(self, pages: Pages, classes: Array, kcore: Array) -> Array:
        """Find which page of its area each wrong page's bytes are from."""
        source = np.full(len(classes), NO_PAGE, np.int64)
        wrong = np.isin(classes, (PageClass.WRONG, PageClass.UNMAPPED_WRONG))
        for row in np.unique(pages.row[wrong]).tolist():
            at = np.flatnonzero(wrong & (pages.row == row))
            whole = self._targets.area_pages(row, _MAX_SOURCE_PAGES)
            source[at] = find_sources(kcore[at], *self._views.memory(whole.address))
        return source

    def _gone(self, pages: Pages, classes: Array, source: Array) -> Array:
        """Return the pages that are odd, and whose area is no longer there."""
        targets, odd = self._targets, np.isin(classes, _BAD)
        odd |= classes == PageClass.UNMAPPED_ZERO
        # What is stale may be so because the area is gone.
        stale = classes == PageClass.STALE
        odd &= stale | ~self._explained(pages, classes, source)
        # In blocks pages come and go.
        blocks = targets.snapshot.areas.is_block[targets.rows[pages.row]]
        odd &= ~(blocks & (classes == PageClass.UNMAPPED_ZERO))
        rows = np.unique(pages.row[odd])
        if not len(rows):
            return odd
        now = self._areas_now(np.sort(targets.starts[rows]))
        same = _still_there(targets.snapshot, targets.rows[rows], now)
        gone: Array = odd & np.isin(pages.row, rows[~same])
        return gone


def _still_there(before: Snapshot, rows: Array, after: Snapshot) -> Array:
    """
    Return which busy areas are in another snapshot just as they were.

    Where a vm_struct cannot be taken for its area's own, nothing tells what belongs
    there: such an area is in the making, or going.
    """

    def identities(snapshot: Snapshot, rows: Array) -> Iterator[Tuple[int, ...]]:
        areas = snapshot.areas
        columns = (areas.start, areas.end, areas.vm, areas.flags, areas.va_flags)
        return zip(*(column[rows].tolist() for column in columns))

    busy = set(identities(after, np.flatnonzero(after.areas.state == State.BUSY)))
    there = np.array([one in busy for one in identities(before, rows)], bool)
    told: Array = before.areas.vm_ok[rows] | (before.areas.vm[rows] == 0)
    return there & told
