# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Inspection
----------

What a kernel says more than once, and whether it agrees with itself.
"""

import enum
from dataclasses import dataclass
from typing import Optional, Tuple

from .._numpy import Array, U64Array
from .areas import Snapshot
from .blocks import Blocks
from .space import LazyPages
from .sums import PageCounter

__all__ = (
    "AreaTree",
    "VmPages",
    "Inspection",
    "Verdict",
    "Failure",
    "Check",
)


@dataclass(frozen=True)
class AreaTree:
    """
    A tree of areas, by address, and the links of the list that has the same ones.

    Each column has one element an area. Links are addresses: of a
    ``struct list_head`` in a list, of a ``struct rb_node`` in a tree.
    """

    name: str
    head: int
    """Address of the list's head."""
    first: int
    """What the head names as its next."""
    last: int
    """What the head names as its previous."""
    root: int
    address: U64Array
    start: U64Array
    end: U64Array
    link: U64Array
    """The area's own place in the list."""
    next: U64Array
    prev: U64Array
    rb: U64Array
    """The area's own place in the tree."""
    left: U64Array
    right: U64Array
    largest: Optional[U64Array]
    """subtree_max_size, which only the tree of free areas keeps."""


@dataclass(frozen=True)
class VmPages:
    """Pages of vm_struct.pages and what the page table says of their addresses."""

    row: Array
    """Row of the area in ``Snapshot.areas``."""
    index: U64Array
    page: U64Array
    """Address of the struct page, zero if it could not be read."""
    phys: U64Array
    """Where that page is."""
    mapped: U64Array
    """Where the page table leads, zero if nowhere."""
    known: Array
    """False if either could not be read."""


@dataclass(frozen=True)
class Inspection:
    """What a kernel says about its vmalloc state in more than one way."""

    snapshot: Snapshot
    """With areas of all states."""
    blocks: Blocks
    trees: Tuple[AreaTree, ...]
    vm_pages: VmPages
    pools: Optional[Array]
    """Lengths that pools have noted: a row a struct vmap_node, a column a size in
    pages, less one. None without nodes."""
    nr_nodes: int
    zone_size: Optional[int]
    """Bytes of addresses that go to one node before the next; None if not known."""
    lazy: LazyPages
    counter: Optional[PageCounter]
    vm_set_early: bool
    """An area has its vm before it is in the tree."""
    dirty_range_reset: bool
    """vm_unmap_aliases() empties the dirty range of blocks."""
    activity: Tuple[str, ...]
    """Who was about to change all this when a vmcore was taken."""


class Verdict(enum.Enum):
    """What a check of :mod:`drgn_vmap.analyses.fsck` found."""

    OK = "ok"
    FAILED = "failed"
    EXPLAINABLE = "explainable"
    """Legal for a moment, and somebody may have been at just that moment; or what a
    healthy kernel may do at any time."""
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Failure:
    """Something that contradicts something else."""

    address: int
    """Of the struct that is named in the text, or of a range."""
    text: str
    window: str = ""
    """While what this is legal; empty if never."""
    excuse: str = ""
    """Why a healthy kernel may have it at any time; empty if none may."""
    constant: str = ""
    """What of it is the same in another reading; empty if that is its whole text."""

    @property
    def same_as(self) -> str:
        """What it is told by in another reading."""
        return self.constant or self.text


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    id: str
    title: str
    verdict: Verdict
    checked: int
    """How many things were looked at."""
    failures: Tuple[Failure, ...] = ()
    reason: str = ""
    """Why it was skipped, or what explains the failures."""
