# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Mappings
--------

Which addresses of areas lead to a physical address: the kernel keeps no way back,
so all areas are looked through; and which memory they map at all.
"""

from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

from ..._numpy import Array, U64Array, np, spread
from ...errors import UsageError
from ...model.areas import Problem, ProblemKind, Snapshot, State, vm_flag
from ..target import Target
from .area_pages import AreaPages

__all__ = ("find_mappings", "struct_page_phys", "vmalloc_frames")

_PAGES_AT_ONCE = 1 << 20
_MAX_PAGES = 1 << 26
"""More than are looked at in any case: 256 GiB of pages of 4 KiB that are mapped."""


def struct_page_phys(target: Target, page: int) -> int:
    """
    Return the physical address of the page whose struct page holds an address.

    :raises UsageError: if there is no struct page.
    :raises VmapError: if where they are is not known.
    """
    array = target.frames
    end = array.end
    if not array.first <= page < end:
        raise UsageError(
            f"page:{page:#x} is no struct page: they lie at {array.first:#x}-{end:#x}"
        )
    frame = array.first_frame + (page - array.first) // array.size
    return frame * target.page_size


def find_mappings(
    target: Target, snapshot: Snapshot, wanted: Sequence[int]
) -> Tuple[List[Tuple[int, int]], Tuple[Problem, ...]]:
    """
    Find where areas in use map physical addresses.

    :param snapshot: With all busy areas.
    :param wanted: Physical addresses.
    :return: Pairs of a physical address and a virtual one, by ascending address, and
        what of the page table was damaged.
    """
    page_size = snapshot.kernel.page_size
    named = AreaPages(target, snapshot)
    problems: Dict[Problem, None] = {}
    target.physical.forget()
    by_frame: Dict[int, Set[int]] = {}
    for phys in wanted:
        by_frame.setdefault(phys - phys % page_size, set()).add(phys)
    frames = np.array(sorted(by_frame), np.uint64)
    pairs: Set[Tuple[int, int]] = set()
    for addresses in _candidates(target, snapshot, frames, problems):
        found, _ = named.complete(addresses, target.page_table.translate(addresses))
        problems.update(dict.fromkeys(found.problems))
        hits = np.flatnonzero(found.present & np.isin(found.phys, frames))
        for page, frame in zip(addresses[hits].tolist(), found.phys[hits].tolist()):
            pairs.update((phys, page + phys - frame) for phys in by_frame[frame])
    return sorted(pairs), tuple(problems)


def vmalloc_frames(
    target: Target, snapshot: Snapshot
) -> Tuple[Optional[U64Array], Tuple[Problem, ...]]:
    """
    Find the page frames that areas in use map, but for those of ioremap().

    :param snapshot: With all busy areas.
    :return: Frames, ascending, each of them once, or None if nothing is known of what is
        mapped; and what of the page table was damaged.
    """
    page_size = np.uint64(snapshot.kernel.page_size)
    named = AreaPages(target, snapshot)
    problems: Dict[Problem, None] = {}
    areas = snapshot.areas
    target.physical.forget()
    devices = (areas.flags & vm_flag("VM_IOREMAP") != 0) | (areas.phys_addr != 0)
    rows = np.flatnonzero((areas.state == State.BUSY) & ~devices)
    parts: List[U64Array] = [np.empty(0, np.uint64)]
    known = not len(rows)
    for addresses in _pages(target, areas.start[rows], areas.end[rows], problems):
        found, _ = named.complete(addresses, target.page_table.translate(addresses))
        problems.update(dict.fromkeys(found.problems))
        known |= bool(found.known.any())
        parts.append(np.unique(found.phys[found.present] // page_size))
    frames = np.unique(np.concatenate(parts)) if known else None
    return frames, tuple(problems)


def _candidates(
    target: Target,
    snapshot: Snapshot,
    frames: U64Array,
    problems: Dict[Problem, None],
) -> Iterator[U64Array]:
    """Yield the addresses of pages that may lead to the frames, some at a time."""
    areas, page_size = snapshot.areas, np.uint64(snapshot.kernel.page_size)
    busy = areas.state == State.BUSY
    # Where ioremap() leads is noted down, and such areas may be huge.
    noted = busy & (areas.phys_addr != 0)
    for row in np.flatnonzero(noted).tolist():
        offset = frames - (areas.phys_addr[row] & ~(page_size - np.uint64(1)))
        fits = offset < areas.end[row] - areas.start[row]
        if fits.any():
            yield areas.start[row] + offset[fits]
    rows = np.flatnonzero(busy & ~noted)
    yield from _pages(target, areas.start[rows], areas.end[rows], problems)


def _pages(
    target: Target, start: U64Array, end: U64Array, problems: Dict[Problem, None]
) -> Iterator[Array]:
    """Yield the address of each page of some ranges that may be mapped, many at a time."""
    start, end, lost = target.page_table.mapped_parts(start, end)
    problems.update(dict.fromkeys(lost))
    page_size = np.uint64(target.page_size)
    counts = ((end - start) // page_size).astype(np.int64)
    total = int(counts.sum())
    if total > _MAX_PAGES:
        detail = (
            f"are claimed to have {total} pages, the first {_MAX_PAGES} were looked at"
        )
        problems[Problem(ProblemKind.BOUNDED, "areas", detail)] = None
    for first in range(0, min(total, _MAX_PAGES), _PAGES_AT_ONCE):
        row, index = spread(counts, first, first + _PAGES_AT_ONCE)
        yield start[row] + index.astype(np.uint64) * page_size
