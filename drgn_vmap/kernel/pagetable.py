# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Page tables
-----------

Translates many kernel addresses at once through the kernel's own page table
(``init_mm``), which tells what is mapped whether or not any struct says so.
Tables are read by physical address and once each. Architectures other than
x86_64 are walked by drgn, one address at a time.
"""

import re
from typing import List, Tuple

from drgn import Architecture, FaultError, Program
from drgn.helpers.linux.mm import follow_phys

from .._numpy import Array, U64Array, np
from ..model import Problem, Translation
from .memory import Memory

__all__ = ("PageTable",)

_AT_ONCE = 1 << 20
"""Addresses translated in one go, which bounds the memory it takes."""

_LEAST_TABLE = 1 << 20
"""Bytes that the smallest table of any architecture maps: s390x's, of 256 pages."""

# Architecture of x86_64: Intel's manual, volume 3, 4-level and 5-level paging.
_TABLE = np.dtype([("entries", "<u8", (512,))])
_INDEX = np.uint64(511)
_PRESENT = np.uint64(1)
_LEAF = np.uint64(1 << 7)
_FRAME = np.uint64(((1 << 52) - 1) & ~0xFFF)
_PTE_SHIFT = 12
_PMD_SHIFT = 21
_LEAF_SHIFTS = (30, _PMD_SHIFT)


class PageTable:
    """
    The kernel's page table; what of it is damaged is collected in ``problems``.

    :param page_size: Bytes of a page.
    """

    def __init__(self, prog: Program, page_size: int) -> None:
        self._prog = prog
        self._memory = Memory(prog, page_size, physical=True)
        self.problems: List[Problem] = []
        platform = prog.platform
        self._is_x86_64 = platform is not None and platform.arch == Architecture.X86_64
        if self._is_x86_64:
            self._levels, self._frame = _x86_64_settings(prog)
            pgd = prog["init_mm"].pgd
            self._root = follow_phys(prog["init_mm"].address_of_(), pgd).value_()

    def forget(self) -> None:
        """Drop all tables, so that what is looked up next is read anew."""
        self._memory.forget()

    def translate(self, addresses: U64Array) -> Translation:
        """Look up addresses in any order."""
        parts = [
            self._translate(addresses[at : at + _AT_ONCE])
            for at in range(0, len(addresses), _AT_ONCE)
        ]
        if not parts:
            parts = [self._translate(addresses)]
        return Translation(
            np.concatenate([part.phys for part in parts]),
            np.concatenate([part.present for part in parts]),
            np.concatenate([part.known for part in parts]),
        )

    def load(self, starts: U64Array, ends: U64Array, others: int) -> None:
        """
        Read all tables, so that any address can be looked up.

        :param starts: Addresses where ranges begin, ascending.
        :param ends: Where they end; the ranges do not overlap.
        :param others: Tables of single pages are read where they map part of a
            range, and no more than so many elsewhere.
        """
        if not self._is_x86_64:
            for start, end in zip(starts.tolist(), ends.tolist()):
                self._follow(np.arange(start, end, _LEAST_TABLE, dtype=np.uint64))
            return
        tables = np.array([self._root], np.uint64)
        bases = np.zeros(1, np.uint64)
        for shift in self._levels:
            tables, bases = self._below(tables, bases, shift)
        last = bases + np.uint64((1 << _PMD_SHIFT) - 1)
        at = np.searchsorted(ends, bases, side="right")
        wanted = np.append(starts, ~np.uint64(0))[at] <= last
        rest = np.flatnonzero(~wanted)[others:]
        self._entries(np.delete(tables, rest), np.delete(bases, rest), _PTE_SHIFT)

    def _below(
        self, tables: U64Array, bases: U64Array, shift: int
    ) -> Tuple[U64Array, U64Array]:
        """Return the tables that these ones point to, and the addresses they begin at."""
        records, _ = self._memory.records(tables, _TABLE)
        entries = records["entries"]
        below = entries & _PRESENT != 0
        if shift in _LEAF_SHIFTS:
            below &= entries & _LEAF == 0
        steps = np.arange(512, dtype=np.uint64) << np.uint64(shift)
        # What is as high as the upper half of the root's entries is sign-extended.
        bits = np.uint64(64 - self._levels[0] - 9)
        address = (bases[:, np.newaxis] + steps) << bits
        address = (address.view(np.int64) >> np.int64(bits)).view(np.uint64)
        found, first = np.unique(entries[below] & self._frame, return_index=True)
        return found, address[below][first]

    def _translate(self, addresses: U64Array) -> Translation:
        if not self._is_x86_64:
            return self._follow(addresses)
        # Neighbours share all tables but the last, so these are walked once.
        regions, inverse = np.unique(
            addresses >> np.uint64(_PMD_SHIFT), return_inverse=True
        )
        upper = self._walk_upper(regions << np.uint64(_PMD_SHIFT))
        table, leaf, present, known = (column[inverse] for column in upper)
        phys = table + (addresses & np.uint64((1 << _PMD_SHIFT) - 1))
        tables = np.flatnonzero(present & ~leaf)
        entry, ok = self._entries(table[tables], addresses[tables], _PTE_SHIFT)
        offset = addresses[tables] & np.uint64((1 << _PTE_SHIFT) - 1)
        phys[tables] = (entry & self._frame) + offset
        present[tables] = ok & (entry & _PRESENT != 0)
        known[tables] = ok
        phys[~present] = 0
        return Translation(phys, present, known)

    def _walk_upper(self, addresses: U64Array) -> Tuple[U64Array, Array, Array, Array]:
        """
        Walk down to the last table, or to the leaf that stands in its place.

        :return: Physical address of either, whether it is a leaf, whether there
            is any, and whether that is known.
        """
        count = len(addresses)
        table = np.full(count, self._root, np.uint64)
        leaf = np.zeros(count, bool)
        known = np.ones(count, bool)
        present = self._is_canonical(addresses)
        for shift in self._levels:
            rows = np.flatnonzero(present & ~leaf)
            entry, ok = self._entries(table[rows], addresses[rows], shift)
            present[rows] = ok & (entry & _PRESENT != 0)
            known[rows] = ok
            frame = entry & self._frame
            if shift in _LEAF_SHIFTS:
                is_leaf = present[rows] & (entry & _LEAF != 0)
                inside = np.uint64((1 << shift) - 1)
                frame = np.where(
                    is_leaf, (frame & ~inside) + (addresses[rows] & inside), frame
                )
                leaf[rows] = is_leaf
            table[rows] = frame
        return table, leaf, present, known

    def _is_canonical(self, addresses: U64Array) -> Array:
        bits = self._levels[0] + 9
        upper = addresses >> np.uint64(bits - 1)
        top = np.uint64((1 << (64 - bits + 1)) - 1)
        canonical: Array = (upper == 0) | (upper == top)
        return canonical

    def _entries(
        self, tables: U64Array, addresses: U64Array, shift: int
    ) -> Tuple[U64Array, Array]:
        """Read the entry of each address in its table."""
        unique, inverse = np.unique(tables, return_inverse=True)
        records, ok = self._memory.records(unique, _TABLE)
        self.problems += [
            Problem("unreadable", f"page table {at:#x}", "what it maps is not known")
            for at in unique[~ok].tolist()
        ]
        index = (addresses >> np.uint64(shift)) & _INDEX
        return records["entries"][inverse, index.astype(np.intp)], ok[inverse]

    def _follow(self, addresses: U64Array) -> Translation:
        """Let drgn walk; it knows more architectures."""
        mm = self._prog["init_mm"].address_of_()
        phys = np.zeros(len(addresses), np.uint64)
        present = np.zeros(len(addresses), bool)
        known = np.ones(len(addresses), bool)
        for at, address in enumerate(addresses.tolist()):
            try:
                phys[at] = follow_phys(mm, address).value_()
                present[at] = True
            except FaultError as e:
                # Else it is a table that cannot be read.
                known[at] = e.address == address
                if not known[at]:
                    self._report(f"what it maps is not known: {e}")
            except (NotImplementedError, ValueError) as e:
                self._report(str(e))
                known[:] = False
                break
        return Translation(phys, present, known)

    def _report(self, what: str) -> None:
        """Note a problem that all addresses may have, once."""
        problem = Problem("unreadable", "page table", what)
        if problem not in self.problems:
            self.problems.append(problem)


def _x86_64_settings(prog: Program) -> Tuple[Tuple[int, ...], "np.uint64"]:
    """Return the shifts of the levels above the last, and the mask of a frame."""
    text = prog["VMCOREINFO"].string_().decode("ascii", "replace")
    numbers = dict(re.findall(r"^NUMBER\((\w+)\)=(-?\d+)$", text, re.M))
    five_levels = int(numbers.get("pgtable_l5_enabled", 0))
    # With memory encryption, entries have a bit that is no part of the address.
    sme_mask = np.uint64(int(numbers.get("sme_mask", 0)) & (1 << 64) - 1)
    return (48,) * five_levels + (39, 30, 21), _FRAME & ~sme_mask
