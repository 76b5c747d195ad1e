# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Free space
----------

Finds the place that the kernel's allocator would choose (mm/vmalloc.c), by the
same search through the tree of free areas.
"""

from typing import Iterator, List, NamedTuple, Optional, Set

from ...errors import Fault
from ...model.space import Request, VmallocRange
from ..target import Target
from ..types.structs import need_offset

__all__ = ("has_tree", "lowest_fit")

_MAX_NODES = 100_000
"""More nodes than the search of a healthy tree looks at."""


def has_tree(target: Target) -> bool:
    """Return whether there is a tree of free areas to search."""
    layout = target.layout
    return layout.has_free_tree and layout.rb_offset is not None and not target.by_lists


def lowest_fit(target: Target, request: Request, space: VmallocRange) -> Optional[int]:
    """
    Return the address that a new area would get, None if there is no place.

    Only where :func:`has_tree` says so. Ranges that nodes pool (since 6.9) are not considered.
    """
    align, size = request.align, request.needed
    search = _Search(target, request.searched, space.start)
    try:
        for free in search.candidates():
            start = -(-max(free.start, space.start) // align) * align
            if start + size <= free.end:
                return start if start + size <= space.limit else None
    except Fault:
        pass
    return None


class _Free(NamedTuple):
    """A free area, as a node of the tree."""

    start: int
    end: int
    left: int
    right: int
    largest: int
    """Size of the largest area of this node and those below it."""


class _Search:
    """Goes through the free areas in address order, but only where room is promised."""

    def __init__(self, target: Target, searched: int, start: int) -> None:
        self._memory = target.memory
        self._area = target.layout.vmap_area
        self._rb_offset = need_offset(target.prog, "struct vmap_area", "rb_node")
        self._root = target.values.number(
            lambda prog: prog["free_vmap_area_root"].rb_node
        )
        self._searched = searched
        self._start = start
        self._seen: Set[int] = set()

    def candidates(self) -> Iterator[_Free]:
        """Yield what the kernel's search looks at, until it is content."""
        above: List[_Free] = []
        free = self._free(self._root or 0)
        while free is not None or above:
            # Down to the left as far as there may be room.
            while free is not None:
                above.append(free)
                goes_left = self._start < free.start
                free = self._promising(free.left) if goes_left else None
            here = above.pop()
            yield here
            free = self._promising(here.right)

    def _promising(self, node: int) -> Optional[_Free]:
        free = self._free(node)
        return free if free is not None and free.largest >= self._searched else None

    def _free(self, node: int) -> Optional[_Free]:
        """Read a node; None if there is none, or it was seen before."""
        if not node or node in self._seen or len(self._seen) >= _MAX_NODES:
            return None
        self._seen.add(node)
        area = self._memory.record(node - self._rb_offset, self._area)
        return _Free(
            start=int(area["va_start"]),
            end=int(area["va_end"]),
            left=int(area["rb_left"]),
            right=int(area["rb_right"]),
            largest=int(area["subtree_max_size"]),
        )
