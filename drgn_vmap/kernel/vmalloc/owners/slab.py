# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Slab objects
------------

Objects of any slab cache that point to where an area begins: looked for in all of RAM,
which takes its time.
"""

from typing import Callable, Iterator, List, NamedTuple, Optional, Set, Tuple

from drgn import Object
from drgn.helpers.linux.slab import slab_object_info

from ...._drgn import knows_sheaves
from ...._numpy import Array, U64Array, np
from ....errors import Fault
from ....model.areas import Problem, ProblemKind
from ....model.owners import Owner, OwnerKind
from ...doors import door
from ...memory.direct_map import direct_map_start
from ...memory.ram import ram_ranges
from ...target import Target
from ...types.structs import pointer_dtype, type_size
from .busy import NONE, Claim
from .search import Search

__all__ = ("slab_objects",)

_VMAP_AREA = "struct vmap_area"
_VM_STRUCT = "struct vm_struct"
_CACHE_OF_AREAS = "vmap_area"
_PIECE_PAGES = 1 << 10
_MOST_AN_AREA = 64
"""Pointers that are followed to the objects that hold them; more say nothing new."""
_MOST_ASKED = 8192
"""Objects that drgn is asked about, a millisecond each."""


def slab_objects(
    search: Search,
    wanted: Set[int],
    on_read: Callable[[int, int], None],
    problems: List[Problem],
) -> Iterator[Claim]:
    """
    Yield the objects in use that point to where some areas begin, less those that
    vmalloc itself keeps of them.

    :param wanted: Rows of the areas.
    :param on_read: Called with how many pages were read, of how many.
    :param problems: Gets what was not looked at.
    """
    target = search.target
    direct_map = direct_map_start(target.values)
    # drgn finds the direct map by this one, and raises a plain Exception without.
    known = target.values.address("saved_command_line")
    if direct_map is None or known is None or not wanted:
        return
    objects = _Objects(search)
    counts = dict.fromkeys(wanted, 0)
    for phys, rows in _pointers(search, on_read):
        places = phys + np.uint64(direct_map)
        others = ~objects.are_of_vmalloc(places, rows)
        for place, row in zip(places[others].tolist(), rows[others].tolist()):
            if counts.get(row, _MOST_AN_AREA) < _MOST_AN_AREA:
                counts[row] += 1
                owner = objects.owner(row, place)
                if owner:
                    yield row, owner
    if objects.unasked:
        detail = f"{objects.unasked} pointers were not followed, as there are so many"
        problems.append(Problem(ProblemKind.BOUNDED, "slab objects", detail))
    if objects.untold:
        detail = (
            f"drgn 0.1.0 or newer has to tell whether {objects.untold} objects that have "
            "pointers are free"
        )
        problems.append(Problem(ProblemKind.UNSUPPORTED, "slab objects", detail))


class _Objects:
    """Which slab objects hold pointers."""

    def __init__(self, search: Search) -> None:
        self._prog = search.target.prog
        self._page_size = search.target.page_size
        areas = search.busy.areas
        self._vm = areas.vm
        self._areas = np.sort(areas.address)
        self._area_size, self._vm_size = (
            np.uint64(type_size(self._prog, name) or 0)
            for name in (_VMAP_AREA, _VM_STRUCT)
        )
        self._full = _FullPage(-1, 0, 0, "")
        self._asked = 0
        self.unasked = 0
        """How many pointers nobody was asked about."""
        self.untold = 0
        """How many are in objects of which drgn cannot tell whether they are free."""

    def are_of_vmalloc(self, places: U64Array, rows: Array) -> Array:
        """Return which pointers are in a vmap_area, or in the area's own vm_struct."""
        at = np.searchsorted(self._areas, places, side="right") - 1
        in_area = (at >= 0) & (places - self._areas[at] < self._area_size)
        of_vmalloc: Array = in_area | (places - self._vm[rows] < self._vm_size)
        return of_vmalloc

    def owner(self, row: int, place: int) -> Optional[Owner]:
        """Return the object that holds a pointer to an area, None if it is none in use."""
        if place // self._page_size != self._full.page:
            if self._asked == _MOST_ASKED:
                self.unasked += 1
                return None
            self._asked += 1
            found = self._ask(place)
            if found is None:
                return None
            name, address = found
        else:
            name, address = self._full.cache, self._full.object_at(place)
        if name == _CACHE_OF_AREAS or address == int(self._vm[row]):
            return None
        detail = f"object {address:#x} at +{place - address:#x}"
        return Owner(OwnerKind.SLAB, name, None, detail, f"pointer at {place:#x}")

    def _ask(self, place: int) -> Optional[Tuple[str, int]]:
        """Ask drgn for the object around an address: the name of its cache, and where."""
        with door():
            found = slab_object_info(self._prog, place)
            if found is None or not found.allocated:
                return None
            cache = found.slab_cache
            if _has_sheaves(cache) and not knows_sheaves():
                self.untold += 1
                return None
            name = cache.name.string_().decode("utf-8", "backslashreplace")
            if _is_full(found.slab, cache):
                page = place // self._page_size
                size = int(cache.size)
                self._full = _FullPage(page, found.address, size, name)
        return name, found.address


class _FullPage(NamedTuple):
    """A page of which all slab objects are in use."""

    page: int
    """Its address by pages."""
    first: int
    """Where one of the objects begins."""
    size: int
    """Bytes of each, and what is between them."""
    cache: str

    def object_at(self, place: int) -> int:
        """Return where the object around an address begins."""
        return self.first + (place - self.first) // self.size * self.size


def _has_sheaves(cache: Object) -> bool:
    # Since Linux kernel commit 2d517aa09bbc ("slab: add opt-in caching layer of percpu
    # sheaves") (in v6.18).
    return cache.type_.type.has_member("cpu_sheaves") and bool(cache.cpu_sheaves)


def _is_full(slab: Object, cache: Object) -> bool:
    """
    Return whether all objects of a slab are known to be in use.

    :raises LookupError: if its counters are not known.
    """
    # A CPU keeps free objects of the slab that it takes from, or in sheaves of any.
    if _has_sheaves(cache):
        return False
    if not slab.type_.type.has_member("frozen") or slab.frozen:
        return False
    return int(slab.inuse) == int(slab.objects)


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
    word, size = pointer_dtype(target.prog), target.page_size
    per_page = size // word.itemsize
    try:
        phys = frame * size
        yield phys, target.physical.array(phys, (end - frame) * per_page, word)
    except Fault:
        if end - frame == 1:
            return
        for one in range(frame, end):
            yield from _words(target, one, one + 1)
