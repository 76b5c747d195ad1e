# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Free space
----------

Finds the place that the kernel's allocator would choose (mm/vmalloc.c), by the
same search through the tree of free areas.
"""

from dataclasses import dataclass
from typing import Dict, Optional

from drgn import FaultError, Object, Program, container_of

from ..model.space import VmallocRange

__all__ = ("lowest_fit",)

_MAX_NODES = 100_000
"""More nodes than the search of a healthy tree looks at."""


def lowest_fit(
    prog: Program, size: int, align: int, space: VmallocRange
) -> Optional[int]:
    """
    Return the address that a new area would get, None if there is no place.

    Ranges that the nodes of newer kernels pool are not considered.

    :param size: Bytes, guard page included.
    :param align: A power of two.
    """
    page_size = int(prog["PAGE_SIZE"].value_())
    # The search looks for room to align in too, and may pass over a gap that happens to
    # be aligned. But who needs no more than a page's alignment asks for that of a byte
    # (vmap() and vmalloc() do), or for none of that room (since 6.0 or so). Nothing in
    # memory tells that from commit 9f531973dff3 ("mm/vmalloc: do not adjust the search
    # size for alignment overhead") (in v5.16) up to then it never looked for it.
    longest = size + align - 1 if align > page_size else size
    search = _Search(prog, size, align, longest, space.start)
    try:
        found = search.lowest(prog["free_vmap_area_root"].rb_node)
    except FaultError:
        return None
    return found if found is not None and found + size <= space.limit else None


@dataclass(frozen=True)
class _Free:
    """A free area, as a node of the tree."""

    start: int
    end: int
    left: Object
    right: Object
    largest: int
    """Size of the largest area of this node and those below it."""


class _Search:
    def __init__(
        self, prog: Program, size: int, align: int, longest: int, start: int
    ) -> None:
        self._prog = prog
        self._size = size
        self._align = align
        self._longest = longest
        self._start = start
        self._read: Dict[int, _Free] = {}

    def lowest(self, node: Object) -> Optional[int]:
        """Search in address order, but only where enough room is promised."""
        if not node or len(self._read) >= _MAX_NODES:
            return None
        free = self._free(node)
        if self._start < free.start and self._promises(free.left):
            found = self.lowest(free.left)
            if found is not None:
                return found
        start = -(-max(free.start, self._start) // self._align) * self._align
        if start + self._size <= free.end:
            return start
        return self.lowest(free.right) if self._promises(free.right) else None

    def _promises(self, node: Object) -> bool:
        return bool(node) and self._free(node).largest >= self._longest

    def _free(self, node: Object) -> _Free:
        address = node.value_()
        if address not in self._read:
            area = container_of(node, "struct vmap_area", "rb_node").read_()
            self._read[address] = _Free(
                start=area.va_start.value_(),
                end=area.va_end.value_(),
                left=area.rb_node.rb_left,
                right=area.rb_node.rb_right,
                largest=area.subtree_max_size.value_(),
            )
        return self._read[address]
