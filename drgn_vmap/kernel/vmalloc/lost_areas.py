# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Lost areas
----------

Finds areas in use that nothing leads to any more: the trees, the lists, the nodes or even
the names and types that would are in a part of memory that is lost. Each ``struct
vmap_area`` that is left is there all the same, and is known by three things together:

- its neighbours in a list or a tree name it, as it names them. This also tells where the
  direct map begins, since pointers are virtual and what is looked through is not;
- one of those that hang together is mapped, or leads to the head of the busy list. Areas
  that were freed are unmapped before they go elsewhere (mm/vmalloc.c);
- its vm_struct, if it has any that is left, begins where the area does.
"""

from typing import List, Sequence, Tuple

from ..._numpy import Array, Record, U64Array, np, spread
from ..layout import Layout
from ..memory.dumped import dumped_ranges, read_pieces
from ..memory.ram import ram_ranges
from ..target import Target
from ..types.structs import field_offset, join_records

__all__ = ("find_lost_areas",)

_RB_COLOR = np.uint64(3)
_ASKED = 256
"""Areas that are asked where the direct map begins."""
_NOWHERE = -1
_KASAN_TAG = np.uint64(0xFF << 56)


def find_lost_areas(
    target: Target, layout: Layout, heads: Sequence[int]
) -> Tuple[U64Array, Array, int]:
    """
    Look through all memory of a vmcore.

    :param heads: Addresses of ``list_head`` that only areas in use hang on.
    :return: The address and the record of each area in use that is left, by where it
        begins; and how many there are of which nothing tells whether they are in use.
    :raises VmapError: if it is not known what memory there is.
    """
    phys, records = _candidates(target, layout.vmap_area)
    links = _Links(phys, records, layout)
    group = links.groups()
    own = links.are_own(target)
    mapped = target.page_table.translate(records["va_start"]).present
    in_use = np.isin(group, group[own & (mapped | links.name(heads))])
    linked = links.has_neighbour | links.name(heads)
    found = own & in_use & linked
    others = own & ~in_use & linked & links.may_be_busy()
    rows = np.flatnonzero(found)
    rows = rows[np.argsort(records["va_start"][rows], kind="stable")]
    rows = rows[_apart(records["va_start"][rows], records["va_end"][rows])]
    return links.address[rows], records[rows], int(others.sum())


def _ranges(target: Target) -> List[Tuple[int, int]]:
    found = dumped_ranges(target.files)
    if found:
        return found
    # Other formats are known to drgn alone.
    frames, _ = ram_ranges(target.values, target.memory, target.frames.count())
    return [(a * target.page_size, b * target.page_size) for a, b in frames]


def _candidates(target: Target, dtype: Record) -> Tuple[U64Array, Array]:
    """Return what may be struct vmap_area by itself, and its physical address."""
    word = dtype["va_start"]
    size = dtype.itemsize
    start_at, end_at = (
        field_offset(dtype, name) // word.itemsize for name in ("va_start", "va_end")
    )
    inside_page = word.type(target.page_size - 1)
    places: List[U64Array] = [np.empty(0, np.uint64)]
    found = [np.empty(0, dtype)]
    pieces = read_pieces(
        target.physical, _ranges(target), word.itemsize, size - word.itemsize
    )
    for phys, data in pieces:
        words = np.frombuffer(data, word, len(data) // word.itemsize)
        count = (len(data) - size) // word.itemsize + 1
        if count <= 0:
            continue
        starts, ends = words[start_at:][:count], words[end_at:][:count]
        at = np.flatnonzero((starts & inside_page == 0) & (starts != 0))
        at = at[(ends[at] & inside_page == 0) & (ends[at] > starts[at])]
        rows: Array = np.ndarray(count, f"V{size}", data, strides=(word.itemsize,))
        records = rows[at].view(dtype)
        fine = np.ones(len(at), bool)
        for name in ("next", "prev"):
            pointers = records[name]
            fine &= (pointers != 0) & (pointers % word.type(word.itemsize) == 0)
        places.append(np.uint64(phys) + at[fine].astype(np.uint64) * word.itemsize)
        found.append(records[fine])
    return np.concatenate(places), join_records(found)


class _Links:
    """
    How what may be areas hangs together.

    :param phys: Where each is in physical memory.
    """

    def __init__(self, phys: U64Array, records: Array, layout: Layout) -> None:
        self._records = records
        self._layout = layout
        self._list = np.uint64(layout.list_offset)
        self._next, self._prev = (
            records[name].astype(np.uint64) for name in ("next", "prev")
        )
        self._direct_map = self._find_direct_map(phys)
        self.address: U64Array = phys + self._direct_map
        """Virtual addresses."""
        pairs = self._neighbours()
        self._pairs = pairs
        self.has_neighbour = np.zeros(len(phys), bool)
        """Which are named by what they name."""
        self.has_neighbour[np.concatenate(pairs)] = True

    def name(self, heads: Sequence[int]) -> Array:
        """Return which of them lead to one of some heads."""
        these = np.array(heads, np.uint64)
        found: Array = np.isin(self._next, these) | np.isin(self._prev, these)
        return found

    def groups(self) -> Array:
        """Return a number of each, the same for all that hang together."""
        label = np.arange(len(self._next))
        one, other = self._pairs
        while True:
            least = np.minimum(label[one], label[other])
            joined = label.copy()
            np.minimum.at(joined, label[one], least)
            np.minimum.at(joined, label[other], least)
            while (joined[joined] != joined).any():
                joined = joined[joined]
            if (joined == label).all():
                return label
            label = joined

    def are_own(self, target: Target) -> Array:
        """Return which have no vm_struct, or one that is theirs, or is lost."""
        vm = self._records["vm"].astype(np.uint64)
        word = self._records.dtype["va_start"]
        rows = np.flatnonzero(vm)
        own = vm == 0
        vm_struct = self._layout.vm_struct
        # It has always been the second member.
        offset = field_offset(vm_struct, "addr") if vm_struct.names else word.itemsize
        there = vm[rows] >= self._direct_map
        rows = rows[there]
        at = vm[rows] - self._direct_map + np.uint64(offset)
        addr, ok = target.physical.records(at, word)
        target.physical.forget()
        # setup_vmalloc_vm() copies the start, which may get a KASAN tag.
        differs = (
            addr.astype(np.uint64) ^ self._records["va_start"][rows]
        ) & ~_KASAN_TAG
        own[rows] = ~ok | (differs == 0)
        return own

    def may_be_busy(self) -> Array:
        """Return which have a pointer, or nothing, where free ranges have a size."""
        vm = self._records["vm"]
        found: Array = (vm == 0) | (vm >= self._direct_map)
        return found

    def _find_direct_map(self, phys: U64Array) -> "np.uint64":
        """
        Return the virtual address of physical address 0, on which most agree.

        Of two neighbours in a list, each names the other, and the difference between the
        pointer and where what it names lies is the same for both.
        """
        inside = phys & np.uint64(0xFFF)
        order = np.argsort(inside, kind="stable")
        asked = np.unique(np.linspace(0, len(phys) - 1, _ASKED).astype(np.int64))
        asked = asked[: len(phys)]
        wanted = (self._next[asked] - self._list) & np.uint64(0xFFF)
        first = np.searchsorted(inside[order], wanted)
        last = np.searchsorted(inside[order], wanted, side="right")
        row, index = spread(last - first)
        one, other = asked[row], order[first[row] + index]
        there = self._next[one] - phys[other]
        back = self._prev[other] - phys[one]
        votes = (there - self._list)[there == back]
        values, counts = np.unique(votes, return_counts=True)
        return values[np.argmax(counts)] if len(values) else np.uint64(0)

    def _neighbours(self) -> Tuple[Array, Array]:
        """Return pairs that name each other, in a list or a tree."""
        order = np.argsort(self.address, kind="stable")
        known = self.address[order]

        def at(addresses: U64Array) -> Array:
            near = np.minimum(np.searchsorted(known, addresses), len(known) - 1)
            return np.where(known[near] == addresses, order[near], _NOWHERE)

        if not len(known):
            return order, order
        one = np.arange(len(known))
        following = at(self._next - self._list)
        agree = (following >= 0) & (self._prev[following] == self.address + self._list)
        ones, others = [one[agree]], [following[agree]]
        if self._layout.rb_offset is not None:
            rb = np.uint64(self._layout.rb_offset)
            link = self.address + rb
            above = at((self._records["rb_parent"] & ~_RB_COLOR) - rb)
            left, right = (
                self._records[name][above] for name in ("rb_left", "rb_right")
            )
            agree = (above >= 0) & ((left == link) | (right == link))
            ones.append(one[agree])
            others.append(above[agree])
        return np.concatenate(ones), np.concatenate(others)


def _apart(starts: U64Array, ends: U64Array) -> Array:
    """Return which of some ascending ranges have no addresses in common with others."""
    highest = np.maximum.accumulate(ends)
    over_before = np.append([False], starts[1:] < highest[:-1])[: len(starts)]
    over_behind = np.append(over_before[1:], [False])[: len(starts)]
    apart: Array = ~(over_before | over_behind)
    return apart
