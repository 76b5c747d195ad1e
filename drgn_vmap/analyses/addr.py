# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What is at an address
---------------------

Finds the area and the page of each address, what the page is in its block, and what
/proc/kcore is to return for it.
"""

from dataclasses import replace
from typing import Dict, Iterator, Optional, Sequence, Tuple

from .._numpy import Array, U64Array, np
from ..model.areas import Area, Kernel, Snapshot, State
from ..model.blocks import Blocks, PageState
from ..model.kcore import KcoreAnswer, KcoreRules, Returned
from ..model.places import Place, Region, Spot
from ..model.translation import Translation
from .blocks import page_states
from .describe import describe
from .kcore import is_guarded, unread_flags

__all__ = (
    "are_in_areas",
    "area_around",
    "block_starts",
    "find_places",
    "virtual_addresses",
)

_NONE = -1
_UNKNOWN = "nothing that is known"


def virtual_addresses(spots: Sequence[Spot]) -> U64Array:
    """Return all virtual addresses of the spots, sorted, each once."""
    return np.unique(np.array([at for s in spots for at in s.virtual], np.uint64))


def block_starts(snapshot: Snapshot, addresses: U64Array) -> U64Array:
    """Return where the blocks begin that hold some of these addresses."""
    rows = _Finder(snapshot).rows_at(addresses)
    rows = np.unique(rows[rows != _NONE])
    starts: U64Array = snapshot.areas.start[rows[snapshot.areas.is_block[rows]]]
    return starts


def area_around(snapshot: Snapshot, address: int) -> Optional[Tuple[int, int]]:
    """Return where the range that is not free begins and ends which holds an address."""
    areas = snapshot.areas
    [row] = _Finder(snapshot).rows_at(np.array([address], np.uint64)).tolist()
    if row == _NONE or areas.state[row] == State.FREE:
        return None
    return int(areas.start[row]), int(areas.end[row])


def are_in_areas(snapshot: Snapshot, addresses: U64Array) -> bool:
    """Return whether each address is in a range that is not free."""
    areas = snapshot.areas
    rows = np.flatnonzero(areas.state != State.FREE)
    rows = rows[np.argsort(areas.start[rows], kind="stable")]
    return bool((_holding(snapshot, rows, addresses) != _NONE).all())


def find_places(
    spots: Sequence[Spot],
    snapshot: Snapshot,
    translation: Translation,
    by_vm_struct: Array,
    blocks: Optional[Blocks],
    rules: KcoreRules,
    regions: Sequence[Region] = (),
) -> Iterator[Place]:
    """
    Tell what is at each spot, in their order.

    :param snapshot: With the areas around each address, of all states.
    :param translation: Of ``virtual_addresses(spots)``.
    :param by_vm_struct: Of which of them an area's vm_struct told it, as the page table
        could not.
    :param blocks: With the blocks that hold some of the addresses.
    :param regions: Vmalloc space, and what lies elsewhere; the first one that holds an
        address is it. Nothing if that is not known.
    """
    addresses = virtual_addresses(spots)
    finder = _Finder(snapshot)
    rows = finder.rows_at(addresses)
    pages = _BlockPages(blocks)
    by_address: Dict[int, Place] = {}
    for at, address in enumerate(addresses.tolist()):
        known = bool(translation.known[at])
        present = known and bool(translation.present[at])
        place = Place(
            asked="",
            address=address,
            phys=int(translation.phys[at]) if present else None,
            phys_known=known,
            by_vm_struct=bool(by_vm_struct[at]),
        )
        place = _in_area(place, snapshot, finder.area(int(rows[at])))
        place = pages.in_block(place)
        place = replace(place, region=_region(place, regions))
        below, above = finder.neighbours(place)
        answer = _kcore(place, pages.first_used(place), snapshot.kernel, rules)
        by_address[address] = replace(place, kcore=answer, below=below, above=above)
    for spot in spots:
        for address in spot.virtual:
            place = by_address[address]
            yield replace(place, asked=spot.asked, no_page=spot.no_page)
        if not spot.virtual:
            yield Place(spot.asked, None, spot.phys, no_page=spot.no_page)


def _region(place: Place, regions: Sequence[Region]) -> Optional[Region]:
    """Return what a place without an area is, if it is outside of vmalloc space."""
    address, area = place.address, place.area
    if address is None or (area is not None and area.state != State.FREE):
        return None
    if not regions:
        return None
    found = next((one for one in regions if one.holds(address)), None)
    if found is None:
        start = max((one.end for one in regions if one.end <= address), default=0)
        ends = (one.start for one in regions if one.start > address)
        return Region(_UNKNOWN, start, min(ends, default=1 << 64))
    return None if found.is_vmalloc else found


def _in_area(place: Place, snapshot: Snapshot, area: Optional[Area]) -> Place:
    if area is None or place.address is None or area.state == State.FREE:
        return replace(place, area=area)
    page_size = snapshot.kernel.page_size
    page = (place.address - area.start) // page_size
    guarded = area.vm_flags is not None and is_guarded(area.vm_flags)
    last = page == area.size // page_size - 1
    return replace(place, area=area, page=page, is_guard=guarded and last)


def _kcore(
    place: Place, first_used: Optional[int], kernel: Kernel, rules: KcoreRules
) -> Optional[KcoreAnswer]:
    """Predict a read of one page, as none of kcore's reads is longer."""
    area = place.area
    if area is None or place.region is not None:
        return None
    if area.state == State.FREE and place.phys is not None:
        return None
    if (place.address or 0) < rules.readable_from:
        return KcoreAnswer(Returned.UNDEFINED, "its offset in the file is below 0")
    if area.state != State.BUSY:
        return _hole(rules, "no area is in use there")
    if area.vm_flags is None:
        return _ram(place, area, first_used, rules)
    if place.is_guard:
        return KcoreAnswer(
            Returned.ZEROS, "the last page of an area is taken for its guard"
        )
    for flag, why in unread_flags(kernel, rules).items():
        if area.vm_flags & flag:
            return KcoreAnswer(Returned.ZEROS, why)
    return _mapped(place)


def _ram(
    place: Place, area: Area, first_used: Optional[int], rules: KcoreRules
) -> KcoreAnswer:
    """Predict the read of an area that has no vm_struct."""
    if not area.kinds:
        why = "the area is being made or freed, or its vm_struct is unreadable"
        return KcoreAnswer(Returned.UNDEFINED, why)
    if not rules.reads_ram:
        return _hole(rules, "this kernel does not read what vm_map_ram() mapped")
    if "vm_map_ram" in area.kinds:
        return _mapped(place)
    if not rules.mixes_up_blocks:
        return _mapped(place)
    if first_used is None or place.page is None or place.page < first_used:
        return KcoreAnswer(
            Returned.ZEROS, "no page of the block up to this one is used"
        )
    if place.page == first_used:
        return _mapped(place)
    why = "its reader of blocks begins at the first used page"
    return KcoreAnswer(Returned.OTHER_PAGE, why, first_used)


def _mapped(place: Place) -> KcoreAnswer:
    if place.phys is not None:
        return KcoreAnswer(Returned.DATA, "it goes through the page table")
    if place.phys_known:
        return KcoreAnswer(Returned.ZEROS, "nothing is mapped there")
    return KcoreAnswer(Returned.UNDEFINED, "the page table is unreadable")


def _hole(rules: KcoreRules, why: str) -> KcoreAnswer:
    if rules.zeroes_holes:
        return KcoreAnswer(Returned.ZEROS, why)
    return KcoreAnswer(
        Returned.UNDEFINED,
        f"{why}: zeros, or again what was read before through the same file",
    )


class _Finder:
    """Finds areas by address."""

    def __init__(self, snapshot: Snapshot) -> None:
        areas = snapshot.areas
        self._snapshot = snapshot
        # Where a live kernel moved a range meanwhile, the area in use counts.
        order = np.lexsort((-areas.state.astype(np.int16), areas.start))
        self._order = order
        busy = order[areas.state[order] == State.BUSY]
        self._busy = busy
        self._areas = list(describe(snapshot))

    def rows_at(self, addresses: U64Array) -> Array:
        """Return the row of the area that holds each address, _NONE if none does."""
        found = _holding(self._snapshot, self._busy, addresses)
        other = _holding(self._snapshot, self._order, addresses)
        return np.where(found == _NONE, other, found)

    def area(self, row: int) -> Optional[Area]:
        """Return an area by its row."""
        return None if row == _NONE else self._areas[row]

    def neighbours(self, place: Place) -> Tuple[Optional[Area], Optional[Area]]:
        """Return the areas in use below and above."""
        areas, busy = self._snapshot.areas, self._busy
        in_use = place.area is not None and place.area.state == State.BUSY
        start = place.area.start if place.area and in_use else place.address or 0
        at = int(np.searchsorted(areas.start[busy], np.uint64(start)))
        behind = at + in_use
        below = int(busy[at - 1]) if at else _NONE
        above = int(busy[behind]) if behind < len(busy) else _NONE
        return self.area(below), self.area(above)


def _holding(snapshot: Snapshot, rows: Array, addresses: U64Array) -> Array:
    """Return which of these rows, sorted by start, holds each address."""
    areas = snapshot.areas
    at = np.searchsorted(areas.start[rows], addresses, side="right") - 1
    if not len(rows):
        return np.full(len(addresses), _NONE)
    holds = (at >= 0) & (addresses < areas.end[rows][at])
    return np.where(holds, rows[at], _NONE)


class _BlockPages:
    """What the pages of some blocks are."""

    def __init__(self, blocks: Optional[Blocks]) -> None:
        self._rows: Dict[int, int] = {}
        if blocks is None:
            return
        table = blocks.table
        states = page_states(blocks, np.arange(len(table)))
        self._addresses = table.address.tolist()
        self._states = states.tolist()
        self._rows = {start: row for row, start in enumerate(table.start.tolist())}
        self._first_used = [
            int(np.argmax(row)) if row.any() else None for row in table.used
        ]

    def in_block(self, place: Place) -> Place:
        """Return the place with what its page is in its block, if it is in one."""
        row = self._row(place)
        if row is None or place.page is None:
            return place
        state = PageState(self._states[row][place.page])
        return replace(place, block_page=state, vb=self._addresses[row])

    def first_used(self, place: Place) -> Optional[int]:
        """Return the index of the first used page of the place's block."""
        row = self._row(place)
        return None if row is None else self._first_used[row]

    def _row(self, place: Place) -> Optional[int]:
        if place.area is None or "vmap_block" not in place.area.kinds:
            return None
        return self._rows.get(place.area.start)
