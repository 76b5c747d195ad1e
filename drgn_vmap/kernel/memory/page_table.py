# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Page tables
-----------

Translates many kernel addresses at once through the kernel's own page table
(``init_mm``), which tells what is mapped whether or not any struct says so.
Tables are read by physical address and once each. Where their format is not known here,
drgn walks them, one address at a time.
"""

from itertools import repeat
from typing import Dict, List, Optional, Tuple

from drgn import FaultError

from ..._drgn import follow_phys
from ..._numpy import Array, U64Array, np, spread
from ...errors import Fault
from ...model.areas import Problem, ProblemKind
from ...model.translation import Translation
from ..doors import UNREADABLE, Values
from ..types.kernel_image import image_phys
from ..types.structs import word_size
from ..types.vmcoreinfo import Vmcoreinfo
from .bulk import Memory
from .ppc64 import UNTRANSLATED
from .table_formats import TableFormat, table_format

__all__ = ("PageTable",)

_AT_ONCE = 1 << 20
"""Addresses translated in one go, which bounds the memory it takes."""

_TABLES_AT_ONCE = 1 << 12
"""Tables read in one go."""

_LEAST_TABLE = 1 << 20
"""Bytes that the smallest table of any architecture maps: s390x's, of 256 pages."""

_NO_TABLE = Problem(
    ProblemKind.UNSUPPORTED,
    "page table",
    "what is mapped is not known: where init_mm is, is lost",
)


class PageTable:
    """
    The kernel's page table.

    :param memory: Physical memory, whose pages stay until they are forgotten.
    :param vmcoreinfo: Tells of the tables' format, and where the topmost is if the types
        are lost that do.
    :param hash_table: Whether there is a hash table that nobody can read here instead.
    """

    def __init__(
        self,
        values: Values,
        memory: Memory,
        vmcoreinfo: Vmcoreinfo,
        hash_table: bool,
    ) -> None:
        self._values = values
        self._memory = memory
        self._hash_table = hash_table
        self._problems: Dict[Problem, None] = {}
        self._limit = 1 << 8 * word_size(values.prog)
        """The first that is no address any more."""
        self._root = 0
        self._format: Optional[TableFormat] = None
        if hash_table:
            return
        try:
            root = values.number(
                lambda prog: follow_phys(
                    prog["init_mm"].address_of_(), prog["init_mm"].pgd
                )
            )
        except Fault:
            root = None  # If nothing else tells, drgn says why of each address.
        top = vmcoreinfo.symbols.get("swapper_pg_dir")
        if root is None and top is not None:
            root = image_phys(values.prog, vmcoreinfo, top)
        if root is not None:
            self._root = root
            self._format = table_format(
                values.prog.platform,
                {**vmcoreinfo.numbers, "physical_mask": _physical_mask(values)},
                memory.page_size,
                self._root_entry,
            )

    def _root_entry(self, order: str) -> int:
        found, _ = self._memory.records(
            np.array([self._root], np.uint64), np.dtype(f"{order}u8")
        )
        return int(found[0])

    def forget(self) -> None:
        """Drop all tables, so that what is looked up next is read anew."""
        self._memory.forget()

    def translate(self, addresses: U64Array) -> Translation:
        """Look up addresses in any order."""
        self._problems = {}
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
            tuple(self._problems),
        )

    def load(
        self, starts: U64Array, ends: U64Array, others: int
    ) -> Tuple[Problem, ...]:
        """
        Read all tables, so that any address can be looked up.

        :param starts: Addresses where ranges begin, ascending.
        :param ends: Where they end; the ranges do not overlap.
        :param others: Tables of single pages are read where they map part of a
            range, and no more than so many elsewhere.
        :return: What of them is damaged.
        """
        self._problems = {}
        if self._format is None:
            spans = [*zip(starts.tolist(), ends.tolist(), repeat(_LEAST_TABLE))]
            if spans and self._limit < 1 << 64:
                # drgn reads one entry at a time, and others may be in the same table.
                first = spans[0][0]
                spans = [(0, first, _LEAST_TABLE)]
                spans.append((first, self._limit, self._memory.page_size))
            for span in spans:
                self._follow(np.arange(*span, dtype=np.uint64))
            return tuple(self._problems)
        tables, firsts = np.array([self._root], np.uint64), np.zeros(1, np.uint64)
        last_level = len(self._format.shifts) - 1
        for level in range(last_level):
            tables, firsts = self._below(self._format, tables, firsts, level)
        last = firsts + np.uint64((1 << self._format.shifts[-2]) - 1)
        at = np.searchsorted(ends, firsts, side="right")
        wanted = np.append(starts, ~np.uint64(0))[at] <= last
        rest = np.flatnonzero(~wanted)[others:]
        tables, firsts = np.delete(tables, rest), np.delete(firsts, rest)
        for begin in range(0, len(tables), _TABLES_AT_ONCE):
            part = slice(begin, begin + _TABLES_AT_ONCE)
            self._all_entries(self._format, tables[part], firsts[part], last_level)
        return tuple(self._problems)

    def mapped_parts(
        self, starts: U64Array, ends: U64Array
    ) -> Tuple[U64Array, U64Array, Tuple[Problem, ...]]:
        """
        Leave out of ranges what no table is there for, however long they are.

        :param starts: Where ranges begin, at a page.
        :param ends: Where they end.
        :return: Where parts of them begin and end that may be mapped, as far as is known,
            and what of the tables is damaged.
        """
        self._problems = {}
        format_ = self._format
        if format_ is None:
            return starts, ends, ()
        starts, ends = _within(format_, starts, ends)
        table = np.full(len(starts), self._root, np.uint64)
        found: List[Tuple[U64Array, U64Array]] = []
        for level, shift in enumerate(format_.shifts[:-1]):
            starts, ends, range_ = _cut(starts, ends, shift)
            entry, ok = self._entries(format_, table[range_], starts, level)
            present = ok & format_.present(entry, False)
            ended = ~ok | present & format_.leaf(entry, shift)
            found.append((starts[ended], ends[ended]))
            deeper = present & ~ended
            starts, ends = starts[deeper], ends[deeper]
            table = format_.table(entry[deeper])
        found.append((starts, ends))
        starts, ends = (np.concatenate(column) for column in zip(*found))
        order = np.argsort(starts, kind="stable")
        return starts[order], ends[order], tuple(self._problems)

    def _below(
        self, format_: TableFormat, tables: U64Array, firsts: U64Array, level: int
    ) -> Tuple[U64Array, U64Array]:
        """Return the tables that these ones point to, and the addresses they begin at."""
        addresses, entries, ok = self._all_entries(format_, tables, firsts, level)
        below = ok & format_.present(entries, False)
        below &= ~format_.leaf(entries, format_.shifts[level])
        found, first = np.unique(format_.table(entries[below]), return_index=True)
        return found, addresses[below][first]

    def _all_entries(
        self, format_: TableFormat, tables: U64Array, firsts: U64Array, level: int
    ) -> Tuple[U64Array, U64Array, Array]:
        """Read whole tables; return the address of each entry, and what and whether."""
        addresses = format_.addresses(firsts, level)
        owners = np.repeat(tables, addresses.shape[1])
        addresses = addresses.reshape(-1)
        return (addresses, *self._entries(format_, owners, addresses, level))

    def _translate(self, addresses: U64Array) -> Translation:
        format_ = self._format
        if format_ is None:
            return self._follow(addresses)
        # Neighbours share all tables but the last, so these are walked once.
        shift = format_.shifts[-2]
        regions, inverse = np.unique(addresses >> np.uint64(shift), return_inverse=True)
        upper = self._walk_upper(format_, regions << np.uint64(shift))
        table, leaf, present, known = (column[inverse] for column in upper)
        phys = table + (addresses & np.uint64((1 << shift) - 1))
        rows = np.flatnonzero(present & ~leaf)
        last = len(format_.shifts) - 1
        entry, ok = self._entries(format_, table[rows], addresses[rows], last)
        offset = addresses[rows] & np.uint64((1 << format_.shifts[-1]) - 1)
        phys[rows] = format_.frame(entry) + offset
        present[rows] = ok & format_.present(entry, True)
        known[rows] = ok
        phys[~present] = 0
        return Translation(phys, present, known)

    def _walk_upper(
        self, format_: TableFormat, addresses: U64Array
    ) -> Tuple[U64Array, Array, Array, Array]:
        """
        Walk down to the last table, or to the leaf that stands in its place.

        :return: Physical address of either, whether it is a leaf, whether there
            is any, and whether that is known.
        """
        count = len(addresses)
        table = np.full(count, self._root, np.uint64)
        leaf = np.zeros(count, bool)
        known = np.ones(count, bool)
        present = format_.reaches(addresses)
        for level, shift in enumerate(format_.shifts[:-1]):
            rows = np.flatnonzero(present & ~leaf)
            entry, ok = self._entries(format_, table[rows], addresses[rows], level)
            present[rows] = ok & format_.present(entry, False)
            known[rows] = ok
            leaf[rows] = present[rows] & format_.leaf(entry, shift)
            inside = np.uint64((1 << shift) - 1)
            memory = (format_.frame(entry) & ~inside) + (addresses[rows] & inside)
            table[rows] = np.where(leaf[rows], memory, format_.table(entry))
        return table, leaf, present, known

    def _entries(
        self, format_: TableFormat, tables: U64Array, addresses: U64Array, level: int
    ) -> Tuple[U64Array, Array]:
        """Read the entry of each address in its table."""
        places = format_.places(tables, addresses, level)
        entries, ok = self._memory.records(places, np.dtype(f"{format_.order}u8"))
        for at in np.unique(tables[~ok]).tolist():
            self._report(
                ProblemKind.UNREADABLE,
                f"page table {at:#x}",
                "what it maps is not known",
            )
        entries = entries.astype(np.uint64)
        if level == len(format_.shifts) - 1:
            entries = format_.single(entries, places)
        return entries, ok

    def _follow(self, addresses: U64Array) -> Translation:
        """Let drgn walk; it knows more architectures."""
        phys = np.zeros(len(addresses), np.uint64)
        present = np.zeros(len(addresses), bool)
        mm = self._values.address("init_mm")
        if self._hash_table or mm is None:
            self._problems[UNTRANSLATED if self._hash_table else _NO_TABLE] = None
            return Translation(phys, present, present.copy())
        known = np.ones(len(addresses), bool)
        init_mm = self._values.prog["init_mm"].address_of_()
        for at, address in enumerate(addresses.tolist()):
            if address >= self._limit:
                continue  # drgn would look up the lower bits of what is no address.
            try:
                phys[at] = follow_phys(init_mm, address).value_()
                present[at] = True
            except FaultError as e:
                # Else it is a table that cannot be read.
                known[at] = e.address == address
                if not known[at]:
                    self._report(
                        ProblemKind.UNREADABLE,
                        "page table",
                        f"what it maps is not known: {e}",
                    )
            except UNREADABLE as e:
                self._report(
                    ProblemKind.UNSUPPORTED,
                    "page table",
                    f"what is mapped is not known: {e}",
                )
                known[:] = False
                break
        return Translation(phys, present, known)

    def _report(self, what: ProblemKind, where: str, detail: str) -> None:
        """Note a problem that many addresses may have, once."""
        self._problems[Problem(what, where, detail)] = None


def _physical_mask(values: Values) -> int:
    """
    Return which bits of an entry on x86_64 are of an address, by what the kernel says.

    All that there may be where it says nothing, or what cannot be.
    """
    # With CONFIG_DYNAMIC_PHYSICAL_MASK it leaves out the bit that says that memory is
    # encrypted (AMD's SME and SEV), or shared with the host (Intel's TDX).
    try:
        mask = values.number(lambda prog: prog["physical_mask"]) or 0
    except Fault:
        mask = 0
    return mask if mask & _LEAST_PHYSICAL == _LEAST_PHYSICAL else ~0


_LEAST_PHYSICAL = (1 << 36) - 1
"""Bits that the physical addresses of each x86_64 have, and none of these is a mark."""


def _within(
    format_: TableFormat, starts: U64Array, ends: U64Array
) -> Tuple[U64Array, U64Array]:
    """Cut ranges down to what the tables reach."""
    parts = []
    # As the last byte of each: the end of the highest does not fit into 64 bits.
    lasts = ends - np.uint64(1)
    for low, high in format_.windows():
        parts.append(
            (np.maximum(starts, np.uint64(low)), np.minimum(lasts, np.uint64(high)))
        )
    start, last = (np.concatenate(column) for column in zip(*parts))
    there = start <= last
    return start[there], last[there] + np.uint64(1)


def _cut(
    starts: U64Array, ends: U64Array, shift: int
) -> Tuple[U64Array, U64Array, Array]:
    """Cut ranges where entries of a level end; return the range of each part as well."""
    first = starts >> np.uint64(shift)
    count = ((ends - np.uint64(1)) >> np.uint64(shift)) - first + np.uint64(1)
    range_, index = spread(count)
    entry = first[range_] + index.astype(np.uint64)
    start = np.maximum(entry << np.uint64(shift), starts[range_])
    behind = ((entry + np.uint64(1)) << np.uint64(shift)) - np.uint64(1)
    last = np.minimum(behind, ends[range_] - np.uint64(1))
    return start, last + np.uint64(1), range_
