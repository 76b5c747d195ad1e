# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Does kcore tell the truth?
--------------------------

Which pages to read, what class each of them is, and what that says of the areas.
"""

from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from .._numpy import Array, U64Array, np, spread
from ..model.areas import Area, Problem, Snapshot, State, vm_flag
from ..model.kcore import (
    CheckedArea,
    KcoreCheck,
    KcoreRules,
    Look,
    PageClass,
    PageFinding,
    Reader,
)
from .describe import describe
from .kcore import guarded_mask, unread_mask
from .kinds import KINDS, ram_mask
from .select import Selection, select_rows

__all__ = (
    "CHECKED_KINDS",
    "NO_PAGE",
    "OTHER_KIND",
    "Pages",
    "Scope",
    "Tally",
    "Targets",
    "classify",
    "find_sources",
    "find_targets",
    "is_unsure",
    "primers",
    "sum_up",
)

CHECKED_KINDS = tuple(kind for kind in KINDS if kind != "unpurged")
"""Kinds of areas that are in use."""

OTHER_KIND = "other"
"""Stands in sums for areas of no kind."""

_SAMPLE_PAGES = 16
"""Of an area that vm_map_ram() did not make, so many pages are read by default."""

_MAX_WHOLE_PAGES = 1 << 20
"""vm_map_ram() never mapped more: it is a record torn by a change of a live kernel."""

NO_PAGE = -1
"""Stands for the page that bytes came from if none is found."""

_MAX_FINDINGS_OF_AREA = 1024
"""VMAP_BBMAP_BITS_MAX: all pages of a block."""
_MAX_FINDINGS = 1 << 16


@dataclass(frozen=True)
class Scope:
    """Which pages to check."""

    kinds: Sequence[str] = ()
    """Areas of any of these; all if empty."""
    range: Optional[Tuple[int, int]] = None
    """Only pages in this range of addresses."""
    all_pages: bool = False
    """Not just a sample of ordinary areas."""
    limit_pages: Optional[int] = None
    """No more pages than so many."""


@dataclass(frozen=True)
class Pages:
    """Some pages to look at, each column as long as they are many."""

    row: Array
    """Row of the area in the targets."""
    index: Array
    """Index of the page in its area."""
    address: U64Array
    untouched: Array
    """kcore does not read the memory of the area at all."""
    by_design: Array
    """kcore means to return zeros."""

    def take(self, rows: Array) -> "Pages":
        """Return the given ones."""
        return Pages(
            self.row[rows],
            self.index[rows],
            self.address[rows],
            self.untouched[rows],
            self.by_design[rows],
        )


@dataclass(frozen=True)
class Targets:
    """The areas to check, those that vm_map_ram() made first."""

    snapshot: Snapshot
    rows: Array
    """Their rows in the snapshot."""
    first: Array
    """Index of the first page to read of each."""
    span: Array
    """From it on, so many pages are in question."""
    count: Array
    """So many of them are read, spread evenly."""
    pages: Array
    """Pages that the area has."""
    is_ram: Array
    unread: Array
    guarded: Array
    sample_pages: Optional[int]
    """How many pages of other areas are read; None if all are."""

    @property
    def total(self) -> int:
        """How many pages are to be read."""
        return int(self.count.sum())

    @property
    def starts(self) -> U64Array:
        """Where the areas begin."""
        starts: U64Array = self.snapshot.areas.start[self.rows]
        return starts

    def batches(self, size: int) -> Iterator[Pages]:
        """Yield all pages to read, in order, so many at a time."""
        for begin in range(0, self.total, size):
            row, step = spread(self.count, begin, begin + size)
            far = step * (self.span[row] - 1) // np.maximum(self.count[row] - 1, 1)
            yield self._pages(row, self.first[row] + far)

    def area_pages(self, row: int, limit: int) -> Pages:
        """Return the first pages of an area, be they to be read or not."""
        index = np.arange(min(int(self.pages[row]), limit))
        return self._pages(np.full(len(index), row), index)

    def _pages(self, row: Array, index: Array) -> Pages:
        page_size = np.uint64(self.snapshot.kernel.page_size)
        is_guard = self.guarded[row] & (index == self.pages[row] - 1)
        return Pages(
            row=row,
            index=index,
            address=self.starts[row] + index.astype(np.uint64) * page_size,
            untouched=self.unread[row],
            by_design=self.unread[row] | is_guard,
        )


def find_targets(snapshot: Snapshot, scope: Scope, rules: KcoreRules) -> Targets:
    """Choose the pages to read."""
    areas, page_size = snapshot.areas, np.uint64(snapshot.kernel.page_size)
    selection = Selection(scope.kinds, range=scope.range, sort="address")
    rows = select_rows(snapshot, selection, as_listed=False)
    rows = rows[areas.state[rows] == State.BUSY]
    is_ram = ram_mask(snapshot)
    rows = rows[np.argsort(~is_ram[rows], kind="stable")]
    start, end = areas.start[rows], areas.end[rows]
    low, high = scope.range or (0, 1 << 64)
    first = (np.maximum(start, np.uint64(low)) - start) // page_size
    last = (np.minimum(end - np.uint64(1), np.uint64(high - 1)) - start) // page_size
    span = (last - first).astype(np.int64) + 1
    pages = ((end - start) // page_size).astype(np.int64)
    guarded = guarded_mask(snapshot)[rows]
    count = span
    if not scope.all_pages:
        # A sample is of pages that are to hold something.
        with_guard = guarded & (last.astype(np.int64) == pages - 1) & (span > 1)
        span = span - with_guard
        whole = is_ram[rows] & (span <= _MAX_WHOLE_PAGES)
        count = np.where(whole, span, np.minimum(span, _SAMPLE_PAGES))
    if scope.limit_pages is not None:
        before = np.cumsum(count) - count
        count = np.clip(scope.limit_pages - before, 0, count)
    return Targets(
        snapshot=snapshot,
        rows=rows,
        first=first.astype(np.int64),
        span=span,
        count=count,
        pages=pages,
        is_ram=is_ram[rows],
        unread=unread_mask(snapshot, rules)[rows],
        guarded=guarded,
        sample_pages=None if scope.all_pages else _SAMPLE_PAGES,
    )


def primers(snapshot: Snapshot) -> U64Array:
    """Return pages that vmalloc() allocated, of which some can become primers."""
    areas = snapshot.areas
    good = (areas.state == State.BUSY) & areas.vm_ok
    good &= (areas.flags & vm_flag("VM_ALLOC") != 0) & (areas.nr_pages != 0)
    good &= areas.flags & (vm_flag("VM_UNINITIALIZED") | vm_flag("VM_IOREMAP")) == 0
    starts: U64Array = areas.start[good]
    return starts


def classify(pages: Pages, look: Look, primed: bool) -> Array:
    """
    Return the class of each page as one look shows it.

    :param primed: kcore was made to hold other bytes just before each page, so that
        a page that repeats them is stale.
    """
    no_memory = ~look.known | look.mapped & ~look.in_memory
    rules = (
        (~look.read & look.known & ~look.mapped, PageClass.UNMAPPED_FAULT),
        (~look.read, PageClass.UNREADABLE),
        (look.repeated & ~look.equal & primed, PageClass.STALE),
        (look.zero & pages.by_design, PageClass.BY_DESIGN),
        (no_memory, PageClass.UNREADABLE),
        (look.equal, PageClass.EQUAL),
        (~look.steady, PageClass.RACED),
        (look.mapped & look.zero, PageClass.ZERO),
        (look.mapped, PageClass.WRONG),
        (look.zero, PageClass.UNMAPPED_ZERO),
    )
    masks, classes = zip(*rules)
    found: Array = np.select(masks, classes, PageClass.UNMAPPED_WRONG)
    return found.astype(np.uint8)


def is_unsure(look: Look, classes: Array, rules: KcoreRules) -> Array:
    """
    Return the pages that one look without primers does not settle.

    A page that repeats the one read before may be stale. A reader that fills holes
    with zeros leaves no doubt about zeros.
    """
    doubtful = look.repeated & ~look.equal & look.read
    doubtful &= ~(look.zero & rules.zeroes_holes)
    unsure: Array = doubtful | _is_bad(classes) | (classes == PageClass.RACED)
    return unsure


def _is_bad(classes: Array) -> Array:
    bad: Array = np.isin(classes, [c for c in PageClass if c.is_bad])
    return bad


def find_sources(kcore: Array, area: Array, known: Array) -> Array:
    """
    Find where in an area the bytes are that kcore returned.

    :param kcore: A row of words for each page that was returned.
    :param area: A row of words for each page of the area.
    :param known: Which of these are mapped and could be read.
    :return: Index of the first page with the same bytes, or NO_PAGE.
    """
    where: Dict[bytes, int] = {}
    for index in np.flatnonzero(known).tolist():
        where.setdefault(area[index].tobytes(), index)
    found = [where.get(row.tobytes(), NO_PAGE) for row in kcore]
    return np.array(found, np.int64)


class Tally:
    """Counts pages by area and class, and keeps the worst of them."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._counts = np.zeros((len(targets.rows), len(PageClass)), np.int64)
        self._blank = np.zeros(len(targets.rows), np.int64)
        self._lost = np.zeros(len(targets.rows), np.int64)
        self._findings: Dict[int, List[PageFinding]] = {}
        self._kept = 0

    def add(self, pages: Pages, classes: Array, look: Look, source: Array) -> None:
        """
        Add pages.

        :param look: The first look at them.
        :param source: As :func:`find_sources` returns it.
        """
        np.add.at(self._counts, (pages.row, classes), 1)
        blank = look.memory_zero & (classes == PageClass.EQUAL)
        np.add.at(self._blank, pages.row[blank], 1)
        lost = np.isin(classes, (PageClass.ZERO, PageClass.STALE))
        lost &= look.mapped & ~pages.by_design
        np.add.at(self._lost, pages.row[lost], 1)
        worth = _is_bad(classes) | (classes == PageClass.RACED)
        worth |= classes == PageClass.UNREADABLE
        for at in np.flatnonzero(worth).tolist():
            kept = self._findings.setdefault(int(pages.row[at]), [])
            if self._kept == _MAX_FINDINGS or len(kept) == _MAX_FINDINGS_OF_AREA:
                continue
            same_as = None if source[at] == NO_PAGE else int(source[at])
            kind = PageClass(classes[at])
            kept.append(PageFinding(int(pages.index[at]), kind, same_as))
            self._kept += 1

    @property
    def pages(self) -> int:
        """How many pages were added."""
        return int(self._counts.sum())

    def areas(self) -> Tuple[CheckedArea, ...]:
        """Return the areas of which pages were added, by ascending address."""
        order = np.argsort(self._targets.starts, kind="stable")
        order = order[self._counts[order].any(axis=1)]
        described = describe(self._targets.snapshot, self._targets.rows[order])
        return tuple(
            self._area(area, row) for area, row in zip(described, order.tolist())
        )

    def _area(self, area: Area, row: int) -> CheckedArea:
        counts = self._counts[row].tolist()
        pages = {c: counts[c] for c in PageClass if counts[c]}
        findings = tuple(self._findings.get(row, ()))
        bad = sum(n for c, n in pages.items() if c.is_bad)
        bad += pages.get(PageClass.RACED, 0) + pages.get(PageClass.UNREADABLE, 0)
        return CheckedArea(
            start=area.start,
            end=area.end,
            kinds=area.kinds,
            pages=pages,
            blank=int(self._blank[row]),
            lost=int(self._lost[row]),
            findings=findings,
            findings_left_out=bad - len(findings),
        )


def sum_up(
    targets: Targets,
    tally: Tally,
    rules: KcoreRules,
    problems: Sequence[Problem],
    through: Reader = Reader.KCORE,
) -> KcoreCheck:
    """Return what was found of what somebody returned."""
    areas = tally.areas()
    return KcoreCheck(
        kernel=targets.snapshot.kernel,
        rules=rules,
        areas=areas,
        totals=_sum_by_kind(areas),
        verdict=_verdicts(areas),
        pages=tally.pages,
        all_pages=int(targets.span.sum()),
        sample_pages=targets.sample_pages,
        problems=tuple(dict.fromkeys(problems)),
        through=through,
    )


def _sum_by_kind(areas: Sequence[CheckedArea]) -> Dict[str, Dict[PageClass, int]]:
    """Add the pages of areas up; an area of several kinds counts for each."""
    totals: Dict[str, Dict[PageClass, int]] = {}
    for area in areas:
        for kind in area.kinds or (OTHER_KIND,):
            total = totals.setdefault(kind, {})
            for page_class, count in area.pages.items():
                total[page_class] = total.get(page_class, 0) + count
    return {kind: totals[kind] for kind in (*KINDS, OTHER_KIND) if kind in totals}


_VERDICT_KINDS: Mapping[str, Tuple[str, ...]] = {
    "vmalloc": ("vmalloc", "vmap"),
    "vm_map_ram": ("vm_map_ram",),
    "vmap_block": ("vmap_block",),
}


def _verdicts(areas: Sequence[CheckedArea]) -> Dict[str, str]:
    """Return the worst that was found in areas of each kind that is judged."""
    return {
        name: _worst([area for area in areas if not set(kinds).isdisjoint(area.kinds)])
        for name, kinds in _VERDICT_KINDS.items()
    }


_UNREAD = {PageClass.UNREADABLE, PageClass.UNMAPPED_FAULT}


def _worst(areas: Sequence[CheckedArea]) -> str:
    found = {c for area in areas for c in area.pages}
    unread = PageClass.UNREADABLE in found and found <= _UNREAD
    if unread or not areas:
        return "none-found"
    wrong = (PageClass.WRONG, PageClass.UNMAPPED_WRONG)
    if any(area.pages.get(c) for area in areas for c in wrong):
        return "wrong"
    return "zero" if any(area.lost for area in areas) else "equal"
