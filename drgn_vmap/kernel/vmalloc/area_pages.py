# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Pages of areas
--------------

Which pages an area's ``struct vm_struct`` says that it maps: by its array of pages, or
by the physical address that ioremap() began at. That suffices for many areas where the
page table cannot be read.
"""

from dataclasses import dataclass, replace
from typing import Tuple

from ..._numpy import Array, U64Array, np
from ...errors import VmapError
from ...model.areas import AreaTable, Snapshot, State, vm_flag
from ...model.translation import Translation
from ..memory.budget import affordable
from ..target import Target
from ..types.structs import pointer_dtype

__all__ = ("AreaPages", "NamedPages", "named_pages", "rows_with_pages")


@dataclass(frozen=True)
class NamedPages:
    """Some elements of arrays of pages, a row an element."""

    page: U64Array
    """Address of the struct page."""
    phys: U64Array
    """Physical address of the page."""
    ok: Array
    """Whether both are known."""


def rows_with_pages(target: Target, areas: AreaTable) -> Array:
    """
    Return the rows of areas that vmalloc() filled or vmap() was given to keep.

    Those that claim more pages than there can be, alone or in sum, are left out.
    """
    owned = areas.flags & (vm_flag("VM_ALLOC") | vm_flag("VM_MAP_PUT_PAGES")) != 0
    owned &= areas.flags & vm_flag("VM_UNINITIALIZED") == 0
    owned &= (areas.state == State.BUSY) & areas.vm_ok
    owned &= areas.nr_pages <= (areas.end - areas.start) // np.uint64(target.page_size)
    rows = np.flatnonzero(owned)
    return rows[affordable(areas.nr_pages[rows], target.ram_pages)]


def named_pages(
    target: Target, areas: AreaTable, row: Array, index: U64Array
) -> NamedPages:
    """
    Read elements of areas' arrays of pages.

    :param row: The area of each.
    :param index: Its index in the area's array.
    """
    word = pointer_dtype(target.prog)
    at = areas.page_array[row] + index * np.uint64(word.itemsize)
    target.memory.forget()
    found, ok = target.memory.records(at, word)
    page = found.astype(np.uint64)
    target.memory.forget()
    try:
        frame = target.frames.of(page)
    except VmapError:
        frame, ok = np.zeros_like(page), np.zeros_like(ok)
    return NamedPages(page, frame * np.uint64(target.page_size), ok)


class AreaPages:
    """
    What the vm_structs of a snapshot say of addresses.

    :param snapshot: With the areas that hold the addresses.
    """

    def __init__(self, target: Target, snapshot: Snapshot) -> None:
        areas, page_size = snapshot.areas, snapshot.kernel.page_size
        self._target, self._areas, self._page_size = target, areas, page_size
        self._has_pages = np.zeros(len(areas), bool)
        self._has_pages[rows_with_pages(target, areas)] = True
        unguarded = areas.flags & vm_flag("VM_NO_GUARD") != 0
        self._guard = areas.end - np.where(unguarded, 0, page_size).astype(np.uint64)
        busy = np.flatnonzero((areas.state == State.BUSY) & areas.vm_ok)
        self._rows = busy[np.argsort(areas.start[busy], kind="stable")]

    def complete(
        self, addresses: U64Array, found: Translation
    ) -> Tuple[Translation, Array]:
        """
        Add to what the page table says.

        :param found: Where the page table leads from the addresses.
        :return: The same with what it could not tell but vm_structs can, and of which
            addresses that is.
        """
        told = np.zeros(len(addresses), bool)
        unknown = np.flatnonzero(~found.known)
        if not len(unknown) or not len(self._rows):
            return found, told
        phys, ok = self._look_up(addresses[unknown])
        told[unknown] = ok
        completed = replace(
            found,
            phys=found.phys.copy(),
            present=found.present | told,
            known=found.known | told,
        )
        completed.phys[told] = phys[ok]
        return completed, told

    def _look_up(self, addresses: U64Array) -> Tuple[U64Array, Array]:
        """Return physical addresses, and which of them are known."""
        areas, page_size = self._areas, np.uint64(self._page_size)
        at = np.searchsorted(areas.start[self._rows], addresses, side="right") - 1
        row = self._rows[np.maximum(at, 0)]
        inside = (at >= 0) & (addresses < areas.end[row])
        index = (addresses - areas.start[row]) // page_size
        phys = addresses % page_size
        known = np.zeros(len(addresses), bool)
        listed = inside & self._has_pages[row] & (index < areas.nr_pages[row])
        pages = named_pages(self._target, areas, row[listed], index[listed])
        phys[listed] += pages.phys
        known[listed] = pages.ok
        device = inside & (areas.flags[row] & vm_flag("VM_IOREMAP") != 0)
        device &= (areas.phys_addr[row] != 0) & (addresses < self._guard[row])
        first = areas.phys_addr[row[device]] & ~(page_size - np.uint64(1))
        phys[device] += first + index[device] * page_size
        known |= device
        return phys, known
