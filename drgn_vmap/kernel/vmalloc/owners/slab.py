# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Slab objects
------------

Objects of any slab cache that point to where an area begins: looked for in all of RAM,
which takes its time.
"""

from typing import Callable, Iterator, Optional, Set, Tuple

from drgn.helpers.linux.slab import slab_object_info

from ...._numpy import Array, U64Array, np
from ....errors import Fault
from ....model.owners import Owner, OwnerKind
from ...doors import door
from ...memory.direct_map import direct_map_start
from ...memory.ram import ram_ranges
from ...target import Target
from ...types.structs import word_dtype
from .busy import NONE, Claim
from .search import Search

__all__ = ("slab_objects",)

_ITS_OWN = "vmap_area"
"""The cache of struct vmap_area."""
_PIECE_PAGES = 1 << 10
_MOST_AN_AREA = 64
"""Pointers that are followed to the objects that hold them; more say nothing new."""


def slab_objects(
    search: Search, wanted: Set[int], on_read: Callable[[int, int], None]
) -> Iterator[Claim]:
    """
    Yield the objects in use that point to where some areas begin, less those that
    vmalloc itself keeps of them.

    :param wanted: Rows of the areas.
    :param on_read: Called with how many pages were read, of how many.
    """
    target = search.target
    direct_map = direct_map_start(target.values)
    # drgn finds the direct map by this one, and raises a plain Exception without.
    known = target.values.address("saved_command_line")
    if direct_map is None or known is None or not wanted:
        return
    counts = dict.fromkeys(wanted, 0)
    for phys, rows in _pointers(search, on_read):
        for at, row in zip(phys.tolist(), rows.tolist()):
            if counts.get(row, _MOST_AN_AREA) < _MOST_AN_AREA:
                counts[row] += 1
                owner = _owner(search, row, direct_map + at)
                if owner:
                    yield row, owner


def _owner(search: Search, row: int, address: int) -> Optional[Owner]:
    """Return the object that holds a pointer to an area, None if it is none in use."""
    areas = search.busy.areas
    with door():
        found = slab_object_info(search.target.prog, address)
        if found is None or not found.allocated:
            return None
        name = found.slab_cache.name.string_().decode("utf-8", "backslashreplace")
    # The one below may end where this one begins.
    if name == _ITS_OWN or found.address == int(areas.vm[row]):
        return None
    detail = f"object {found.address:#x} at +{address - found.address:#x}"
    return Owner(OwnerKind.SLAB, name, None, detail, f"pointer at {address:#x}")


def _pointers(
    search: Search, on_read: Callable[[int, int], None]
) -> Iterator[Tuple[U64Array, Array]]:
    """Yield physical addresses of pointers to areas' starts, and the areas' rows."""
    target = search.target
    ranges, _ = ram_ranges(target.values, target.memory, target.frames.count())
    total = sum(end - start for start, end in ranges)
    busy, done = search.busy, 0
    if not len(busy.rows):
        return
    low, high = busy.areas.start[busy.rows[[0, -1]]].tolist()
    for first, last in ranges:
        for frame in range(first, last, _PIECE_PAGES):
            end = min(frame + _PIECE_PAGES, last)
            for phys, words in _words(target, frame, end):
                near = np.flatnonzero((words >= low) & (words <= high))
                rows = busy.starting(words[near])
                hits = near[rows != NONE]
                if len(hits):
                    step = np.uint64(words.itemsize)
                    yield np.uint64(phys) + hits.astype(np.uint64) * step, rows[
                        rows != NONE
                    ]
            done += end - frame
            on_read(done, total)


def _words(target: Target, frame: int, end: int) -> Iterator[Tuple[int, Array]]:
    """Yield what page frames hold, and where; page by page if some are not there."""
    word, size = word_dtype(target.prog), target.page_size
    per_page = size // word.itemsize
    try:
        phys = frame * size
        yield phys, target.physical.array(phys, (end - frame) * per_page, word)
    except Fault:
        if end - frame == 1:
            return
        for one in range(frame, end):
            yield from _words(target, one, one + 1)
