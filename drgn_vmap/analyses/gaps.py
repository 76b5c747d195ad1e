# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What is left of vmalloc space
-----------------------------

How much of it is in use, waits to be purged, or is free, in which pieces; whether
an allocation would fit, and what stands in its way.
"""

from typing import Dict, Optional, Tuple

from .._numpy import Array, U64Array, np
from ..model.areas import ProblemKind, Snapshot, State
from ..model.space import (
    Fit,
    Gap,
    Gaps,
    InTheWay,
    LazyPages,
    Request,
    SizeClass,
    Space,
    VmallocRange,
)
from .describe import describe
from .intervals import bytes_below

__all__ = ("cached_place", "find_fit", "find_gaps", "lowest_free", "request_for")

_AREAS_NAMED = 10
_NEVER = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def find_gaps(
    snapshot: Snapshot,
    space: VmallocRange,
    lazy: Optional[LazyPages],
    cached: Tuple[Gap, ...] = (),
) -> Gaps:
    """
    Sum up vmalloc space by state.

    :param snapshot: With the areas of all states.
    :param lazy: What the kernel counts; None if that is not known.
    :param cached: What it keeps for code.
    """
    areas = snapshot.areas
    start, end = _clipped(snapshot, space)
    size = end - start
    inside = size > 0
    states = {state: inside & (areas.state == state) for state in State}
    free = np.flatnonzero(states[State.FREE])
    whole = areas.end - areas.start
    waiting = (areas.state == State.LAZY) | (areas.state == State.PURGING)
    busy = areas.state == State.BUSY
    return Gaps(
        space=space,
        bytes={state: int(size[mask].sum()) for state, mask in states.items()},
        ranges={state: int(mask.sum()) for state, mask in states.items()},
        outside_bytes=int((whole - size)[busy].sum()),
        largest=_largest(start[free], end[free]),
        histogram=_histogram(size[free]),
        lazy=lazy,
        lazy_pages=int(whole[waiting].sum()) // snapshot.kernel.page_size,
        left_out=sum(
            one.what == ProblemKind.NOT_UNDERSTOOD for one in snapshot.problems
        ),
        cached=cached,
    )


def lowest_free(
    snapshot: Snapshot, space: VmallocRange, request: Request
) -> Optional[int]:
    """Return the lowest free address that the kernel's search cannot pass over."""
    start, end = _clipped(snapshot, space)
    rows = np.flatnonzero(snapshot.areas.state == State.FREE)
    rows = rows[np.argsort(start[rows], kind="stable")]
    return _lowest((start[rows], end[rows]), space, request)


def request_for(
    size: int, align: int, page_size: int, tries_each_gap: bool = False
) -> Request:
    """
    Return what vmalloc(size) asks for: whole pages and a guard page.

    :param size: Bytes.
    :param align: A power of two.
    :param tries_each_gap: The kernel has no tree of free areas, which tells it where not
        to look.
    """
    needed = (-(-size // page_size) + 1) * page_size
    # The search through that tree (since commit 68ad4a330433 ("mm/vmalloc.c: keep track
    # of free blocks for vmap allocation") (in v5.2)) looks for room to align in too, and
    # hardly ever finds a gap that is less and happens to be aligned. But who needs no more
    # than a page's alignment asks for that of a byte (vmap() and vmalloc() do), or for
    # none of that room, since commit 9333fe98d0a6 ("mm/vmalloc: add adjust_search_size
    # parameter") (in v5.18). Nothing in memory tells that from commit 9f531973dff3
    # ("mm/vmalloc: do not adjust the search size for alignment overhead") (in v5.16) up
    # to then it never looked for it.
    adjusts = align > page_size and not tries_each_gap
    return Request(size, align, needed, needed + align - 1 if adjusts else needed)


def find_fit(
    snapshot: Snapshot,
    space: VmallocRange,
    request: Request,
    where: Optional[int],
    ram: Optional[int] = None,
) -> Fit:
    """
    Tell whether an allocation would find room.

    :param where: What the search through the tree of free areas found.
    :param ram: Bytes of RAM, if that is known.
    """
    pools = _pooled(snapshot, space, request)
    gaps = _after_purge(snapshot, space)
    after_purge = _lowest(gaps, space, request)
    in_the_way = None
    if where is None and not pools and after_purge is None:
        in_the_way = _in_the_way(snapshot, gaps, space, request)
    return Fit(request, where, pools, after_purge, in_the_way, ram)


def cached_place(space: Space, size: int, page_size: int) -> Optional[int]:
    """Return what code of a size gets of what is kept for it, as the kernel does."""
    whole = -(-size // page_size) * page_size
    for kept in space.cached:
        # within_range() of mm/execmem.c wants more room than there has to be.
        inside = any(
            one.start <= kept.start and kept.start + whole < one.end
            for one in space.ranges
        )
        if kept.size >= whole and inside:
            return kept.start
    return None


def _clipped(snapshot: Snapshot, space: VmallocRange) -> Tuple[U64Array, U64Array]:
    """Return start and end of each area's part that lies in vmalloc space."""
    low, high = np.uint64(space.start), np.uint64(space.end)
    start = np.clip(snapshot.areas.start, low, high)
    return start, np.clip(snapshot.areas.end, low, high)


def _largest(start: U64Array, end: U64Array) -> Optional[Gap]:
    if not len(start):
        return None
    at = int(np.argmax(end - start))
    return Gap(int(start[at]), int(end[at]))


def _histogram(size: U64Array) -> Tuple[SizeClass, ...]:
    """Count sizes by their highest bit."""
    by_class: Dict[int, Tuple[int, int]] = {}
    distinct, times = np.unique(size, return_counts=True)
    for one, count in zip(distinct.tolist(), times.tolist()):
        at = 1 << (one.bit_length() - 1)
        gaps, total = by_class.get(at, (0, 0))
        by_class[at] = (gaps + count, total + count * one)
    return tuple(SizeClass(at, *by_class[at]) for at in sorted(by_class))


def _pooled(
    snapshot: Snapshot, space: VmallocRange, request: Request
) -> Dict[int, int]:
    """Return the first range of each node's pool for this size, if it is aligned."""
    areas, needed = snapshot.areas, request.needed
    pooled = (areas.state == State.POOL) & (areas.end - areas.start == needed)
    first: Dict[int, int] = {}
    for row in np.flatnonzero(pooled).tolist():
        first.setdefault(int(areas.vmap_node[row]), int(areas.start[row]))
    return {
        node: start
        for node, start in first.items()
        if start % request.align == 0 and space.start <= start <= space.limit - needed
    }


def _after_purge(snapshot: Snapshot, space: VmallocRange) -> Tuple[U64Array, U64Array]:
    """Return start and end of what a purge leaves free, neighbours merged."""
    start, end = _clipped(snapshot, space)
    rows = np.flatnonzero((snapshot.areas.state != State.BUSY) & (start < end))
    rows = rows[np.argsort(start[rows], kind="stable")]
    start, reach = start[rows], np.maximum.accumulate(end[rows])
    first = np.ones(len(rows), bool)
    first[1:] = start[1:] > reach[:-1]
    last = np.append(first[1:], True)[: len(rows)]
    return start[first], reach[last]


def _aligned(start: U64Array, align: int) -> U64Array:
    """Round up; what would wrap around becomes the highest address."""
    mask = np.uint64(align - 1)
    up = (start + mask) & ~mask
    return np.where(up < start, _NEVER, up)


def _lowest(
    gaps: Tuple[U64Array, U64Array], space: VmallocRange, request: Request
) -> Optional[int]:
    start = _aligned(gaps[0], request.align)
    end = np.minimum(gaps[1], np.uint64(space.limit))
    fits = (start < end) & (end - np.minimum(start, end) >= np.uint64(request.needed))
    fits &= gaps[1] - gaps[0] >= np.uint64(request.searched)
    return int(start[fits][0]) if fits.any() else None


def _in_the_way(
    snapshot: Snapshot,
    gaps: Tuple[U64Array, U64Array],
    space: VmallocRange,
    request: Request,
) -> Optional[InTheWay]:
    """Find the place that has the least in use: it begins or ends with a gap."""
    needed, align = request.needed, request.align
    if needed > space.limit - space.start:
        return None
    low, high = np.uint64(space.start), np.uint64(space.limit - needed)
    ends = np.clip(gaps[1], low + np.uint64(needed), None) - np.uint64(needed)
    begins = _aligned(np.concatenate((gaps[0], [low])), align)
    start = np.concatenate((begins, ends & ~np.uint64(align - 1)))
    start = np.unique(start[(start >= low) & (start <= high)])
    if not len(start):
        return None
    free = bytes_below(*gaps, start + np.uint64(needed)) - bytes_below(*gaps, start)
    best = int(start[np.argmax(free)])
    place = Gap(best, best + needed)
    areas, in_use = _areas_in(snapshot, place)
    named = areas[np.argsort(-in_use.astype(np.int64), kind="stable")][:_AREAS_NAMED]
    return InTheWay(place, tuple(describe(snapshot, named)), needed - int(free.max()))


def _areas_in(snapshot: Snapshot, place: Gap) -> Tuple[Array, U64Array]:
    """Return the busy areas in a place, and how much of it each takes."""
    areas = snapshot.areas
    low, high = np.uint64(place.start), np.uint64(place.end)
    part = np.clip(areas.end, low, high) - np.clip(areas.start, low, high)
    rows = np.flatnonzero((areas.state == State.BUSY) & (part > 0))
    return rows, part[rows]
