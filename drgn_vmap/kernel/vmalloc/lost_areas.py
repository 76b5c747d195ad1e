# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Lost areas
----------

Finds areas in use that nothing leads to any more: the trees, the lists, the nodes or even
the names and types that would are in a part of memory that is lost. Each ``struct
vmap_area`` that is left is there all the same, and is known by what it says together with
others:

- whatever it names in its list and its tree, as far as that is left, names it in turn.
  What was freed does not. This also tells where the direct map begins, since pointers are
  virtual and what is looked through is not;
- its vm_struct, if it has any that is left, begins where the area does;
- one of those that hang together is mapped, or leads to the head of the busy list. Areas
  that were freed are unmapped before they go elsewhere (mm/vmalloc.c).
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
_Range = Tuple[int, int]
_INSIDE = np.uint64((1 << 12) - 1)
"""The part of an address that is the same in any mapping: of the smallest pages."""
_KIND_SHIFT = np.uint64(48)
"""The bits from here on are the same in all kernel addresses."""


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
    ranges = _ranges(target)
    phys, records = _look_alikes(target, layout.vmap_area, ranges)
    end = max(end for _, end in ranges)
    found = _Candidates(target, layout, phys, records, end)
    found.keep(found.are_outside_direct_map())
    found.keep(found.have_neighbours() | found.lead_to(heads))
    found.keep(found.are_answered())
    proven, is_lost = found.have_own_vm()
    found.keep(proven | is_lost)
    proven = proven[proven | is_lost]
    start = found.records["va_start"]
    mapped = target.page_table.translate(start).present
    group = found.groups()
    in_use = np.isin(group, group[proven & mapped | found.lead_to(heads)])
    unsure = int((~in_use & found.may_be_busy()).sum())
    rows = np.flatnonzero(in_use)
    rows = rows[np.argsort(start[rows], kind="stable")]
    rows = rows[_apart(start[rows], found.records["va_end"][rows])]
    return found.address[rows], found.records[rows], unsure


def _ranges(target: Target) -> List[_Range]:
    """Return which physical memory there is, at least one range."""
    found = dumped_ranges(target.files)
    if found:
        return found
    # Other formats are known to drgn alone.
    frames, _ = ram_ranges(target.values, target.memory, target.frames.count())
    return [(a * target.page_size, b * target.page_size) for a, b in frames]


def _look_alikes(
    target: Target, dtype: Record, ranges: List[_Range]
) -> Tuple[U64Array, Array]:
    """Return what may be struct vmap_area by itself, and its physical address."""
    word = dtype["va_start"]
    size = dtype.itemsize
    start_at, end_at = (
        field_offset(dtype, name) // word.itemsize for name in ("va_start", "va_end")
    )
    inside_page = word.type(target.page_size - 1)
    places: List[U64Array] = [np.empty(0, np.uint64)]
    found = [np.empty(0, dtype)]
    pieces = read_pieces(target.physical, ranges, word.itemsize, size - word.itemsize)
    done, total = 0, sum(end - begin for begin, end in ranges)
    for start, data in pieces:
        done += len(data)
        target.on_search(min(done, total), total)
        words = np.frombuffer(data, word, len(data) // word.itemsize)
        count = (len(data) - size) // word.itemsize + 1
        if count <= 0:
            continue
        starts, ends = words[start_at:][:count], words[end_at:][:count]
        at = np.flatnonzero((starts & inside_page == 0) & (starts != 0))
        at = at[(ends[at] & inside_page == 0) & (ends[at] > starts[at])]
        rows: Array = np.ndarray(count, f"V{size}", data, strides=(word.itemsize,))
        records = target.memory.tags.off_records(rows[at].view(dtype))
        fine = np.ones(len(at), bool)
        for name in ("next", "prev"):
            pointers = records[name]
            fine &= (pointers != 0) & (pointers % word.type(word.itemsize) == 0)
        places.append(np.uint64(start) + at[fine].astype(np.uint64) * word.itemsize)
        found.append(records[fine])
    # Of several files that may be it, others have some of the same ranges.
    phys, first = np.unique(np.concatenate(places), return_index=True)
    return phys, join_records(found).take(first)


class _Candidates:
    """
    What may be areas, and how they hang together.

    :param phys: Where each is in physical memory.
    :param end: Where that ends.
    """

    def __init__(
        self,
        target: Target,
        layout: Layout,
        phys: U64Array,
        records: Array,
        end: int,
    ) -> None:
        self._memory = target.physical
        self._layout = layout
        self._word = records.dtype["vm"]
        self._list = np.uint64(layout.list_offset)
        self.records = records
        self._direct_map = self._find_direct_map(phys)
        self._end = self._direct_map + np.uint64(end)
        self.address: U64Array = phys + self._direct_map
        """Virtual addresses."""

    def keep(self, these: Array) -> None:
        """Leave out the others."""
        self.records, self.address = self.records[these], self.address[these]

    def are_outside_direct_map(self) -> Array:
        """Return which are of addresses that only an area maps."""
        found: Array = ~self._in_direct_map(self._numbers("va_start"))
        return found

    def have_neighbours(self) -> Array:
        """Return which are named by what they name."""
        found = np.zeros(len(self.address), bool)
        found[np.concatenate(self._neighbours())] = True
        return found

    def lead_to(self, heads: Sequence[int]) -> Array:
        """Return which of them name one of some heads."""
        these = np.array(heads, np.uint64)
        following, before = self._numbers("next"), self._numbers("prev")
        found: Array = np.isin(following, these) | np.isin(before, these)
        return found

    def are_answered(self) -> Array:
        """Return which are named by all that they name, as far as that is left."""
        word = np.uint64(self._word.itemsize)
        link = self.address + self._list
        following, before = self._numbers("next"), self._numbers("prev")
        # A head may be elsewhere, and the second word of a list_head is prev.
        answered = self._agree(following, following + word, link, anywhere=True)
        answered &= self._agree(before, before, link, anywhere=True)
        if self._layout.rb_offset is None:
            return answered
        # The first word of an rb_node is its parent, then come right and left.
        link = self.address + np.uint64(self._layout.rb_offset)
        for name in ("rb_left", "rb_right"):
            child = self._numbers(name)
            answered &= self._agree(child, child, link, mask=~_RB_COLOR)
        parent = self._numbers("rb_parent") & ~_RB_COLOR
        right, left = parent + word, parent + word + word
        answered &= self._agree(parent, right, link) | self._agree(parent, left, link)
        return answered

    def have_own_vm(self) -> Tuple[Array, Array]:
        """Return which have no vm_struct or one that is theirs, and whose is lost."""
        vm = self._numbers("vm")
        vm_struct = self._layout.vm_struct
        # It has always been the second member.
        offset = (
            field_offset(vm_struct, "addr") if vm_struct.names else self._word.itemsize
        )
        addr, ok = self._read(vm + np.uint64(offset))
        # setup_vmalloc_vm() copies the start.
        same = addr == self._numbers("va_start")
        has_vm = self._in_direct_map(vm)
        return (vm == 0) | has_vm & ok & same, has_vm & ~ok

    def may_be_busy(self) -> Array:
        """Return which have a pointer, or nothing, where free ranges have a size."""
        vm = self._numbers("vm")
        found: Array = (vm == 0) | self._in_direct_map(vm)
        return found

    def groups(self) -> Array:
        """Return a number of each, the same for all that hang together."""
        one, other = self._neighbours()
        label = np.arange(len(self.address))
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

    def _numbers(self, name: str) -> U64Array:
        column: U64Array = self.records[name].astype(np.uint64)
        return column

    def _in_direct_map(self, addresses: U64Array) -> Array:
        found: Array = (addresses >= self._direct_map) & (addresses < self._end)
        return found

    def _read(self, addresses: U64Array) -> Tuple[U64Array, Array]:
        """Read a word at each address of the direct map, and say which are left."""
        there = self._in_direct_map(addresses)
        words, ok = np.zeros(len(there), np.uint64), np.zeros(len(there), bool)
        phys = addresses[there] - self._direct_map
        found, ok[there] = self._memory.records(phys, self._word)
        words[there] = found
        return words, ok

    def _agree(
        self,
        named: U64Array,
        places: U64Array,
        answer: U64Array,
        mask: "np.uint64" = ~np.uint64(0),
        anywhere: bool = False,
    ) -> Array:
        """
        Return which of what is named names those who name it, as far as it is left.

        :param places: Where it does.
        :param anywhere: Whether it may lie outside of the direct map.
        """
        words, ok = self._read(places)
        may_be = self._in_direct_map(named)
        if anywhere:
            # In the kernel image; a pointer that list_del() poisoned is like none of its.
            may_be |= (named ^ self._end) >> _KIND_SHIFT == 0
        agree = np.where(ok, words & mask == answer, may_be)
        found: Array = agree | (named == 0)
        return found

    def _find_direct_map(self, phys: U64Array) -> "np.uint64":
        """
        Return the virtual address of physical address 0, on which most agree.

        Of two neighbours in a list, each names the other, and the difference between the
        pointer and where what it names lies is the same for both.
        """
        following, before = self._numbers("next"), self._numbers("prev")
        inside = phys & _INSIDE
        order = np.argsort(inside, kind="stable")
        asked = np.unique(np.linspace(0, len(phys) - 1, _ASKED).astype(np.int64))
        asked = asked[: len(phys)]
        wanted = (following[asked] - self._list) & _INSIDE
        first = np.searchsorted(inside[order], wanted)
        last = np.searchsorted(inside[order], wanted, side="right")
        row, index = spread(last - first)
        one, other = asked[row], order[first[row] + index]
        there = following[one] - phys[other]
        back = before[other] - phys[one]
        votes = (there - self._list)[there == back]
        values, counts = np.unique(votes, return_counts=True)
        return values[np.argmax(counts)] if len(values) else np.uint64(0)

    def _neighbours(self) -> Tuple[Array, Array]:
        """Return pairs that name each other, in a list or a tree."""
        order = np.argsort(self.address, kind="stable")
        if not len(order):
            return order, order
        known = self.address[order]

        def at(addresses: U64Array) -> Array:
            near = np.minimum(np.searchsorted(known, addresses), len(known) - 1)
            return np.where(known[near] == addresses, order[near], _NOWHERE)

        one = np.arange(len(known))
        following = at(self._numbers("next") - self._list)
        back = self._numbers("prev")[following]
        agree = (following != _NOWHERE) & (back == self.address + self._list)
        ones, others = [one[agree]], [following[agree]]
        if self._layout.rb_offset is not None:
            rb = np.uint64(self._layout.rb_offset)
            above = at((self._numbers("rb_parent") & ~_RB_COLOR) - rb)
            left, right = (
                self._numbers(name)[above] for name in ("rb_left", "rb_right")
            )
            link = self.address + rb
            agree = (above != _NOWHERE) & ((left == link) | (right == link))
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
