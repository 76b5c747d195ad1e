# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Snapshot
--------

Reads all of it, once, into a :class:`~drgn_vmap.model.areas.Snapshot`. What could not
be read becomes a :class:`~drgn_vmap.model.areas.Problem`; on a live kernel, where
damage is most likely a change under the reader's eyes, reading is repeated a few
times first.
"""

from dataclasses import replace
from functools import partial
from typing import Callable, Dict, List, Tuple

from ..._numpy import Array, U64Array, np
from ...errors import Fault, SymbolsError, VmapError
from ...model.areas import (
    VMAP_BLOCK,
    VMAP_RAM,
    AreaTable,
    Problem,
    ProblemKind,
    Snapshot,
    State,
    vm_flag,
)
from ..layout import Layout, guess_layout
from ..memory.budget import affordable
from ..memory.numa import NodeFinder
from ..target import Target
from .areas import AreaReader, AreaRecords
from .blocks import block_areas
from .callers import CallerNames, prints_names
from .lost_areas import find_lost_areas
from .racing import as_races, tries

__all__ = ("take_areas_around", "take_snapshot")


def take_snapshot(
    target: Target, all_states: bool = False, once: bool = False
) -> Snapshot:
    """
    Read the vmalloc state of a kernel.

    :param all_states: Also read ranges that are being purged, pooled or free.
    :param once: Do not start over on a live kernel if something is odd; trees that
        change meanwhile are walked again all the same.
    :raises VmapError: if the target is none that can be read.
    """
    states = _ALL_STATES if all_states else _LISTED_STATES

    def read(reader: AreaReader) -> List[AreaRecords]:
        return [reader.busy(), *map(reader.without, states)]

    return _take_snapshot(target, read, once)


def take_areas_around(target: Target, addresses: U64Array) -> Snapshot:
    """
    Read only the areas of any state that hold these addresses, and their neighbours.

    :raises VmapError: if the target is none that can be read.
    """

    def read(reader: AreaReader) -> List[AreaRecords]:
        return [
            reader.busy_around(addresses),
            *map(
                reader.without, (AreaReader.lazy, AreaReader.purging, AreaReader.pools)
            ),
            reader.without(lambda one: one.free_around(addresses)),
        ]

    return _take_snapshot(target, read)


_ReadAreas = Callable[[AreaReader], List[AreaRecords]]
"""Reads the areas that are wanted, busy ones first."""

_LISTED_STATES = (AreaReader.lazy,)
"""Beside busy ones."""
_ALL_STATES = (
    *_LISTED_STATES,
    AreaReader.purging,
    AreaReader.pools,
    AreaReader.free,
)


def _take_snapshot(target: Target, read: _ReadAreas, once: bool = False) -> Snapshot:
    layout = _layout(target)
    kernel = layout.kernel
    for _ in range(1 if once else tries(kernel)):
        reader = _Reader(target, layout)
        areas = reader.areas(read)
        # Where even walks through trees go on racing, no other try does better.
        if reader.lasting or not reader.problems:
            break
    # Few of them differ, and sorting all would take several times as long.
    wanted = sorted(set(areas.caller.tolist()) - {0})
    callers, problems = _caller_texts(target, wanted)
    races = as_races(kernel, [*reader.lasting, *reader.problems])
    problems = [*layout.problems, *races, *problems]
    target.memory.forget()
    return Snapshot(kernel, areas, callers, tuple(problems))


def _layout(target: Target) -> Layout:
    """Return how areas are kept; of a vmcore that lost its types, how they may be."""
    try:
        return target.layout
    except SymbolsError as e:
        if target.live:
            raise
        word = np.dtype(f"{target.byte_order}u{target.word_size}")
        return guess_layout(target.values, target.page_size, word, e)


def _caller_texts(
    target: Target, wanted: List[int]
) -> Tuple[Dict[int, str], List[Problem]]:
    """Name the callers; where the names are lost, their addresses must do."""
    addresses = {address: f"{address:#x}" for address in wanted}
    if not wanted or not prints_names(target):
        return addresses, []
    try:
        names = CallerNames(target)
        return names.texts(wanted), names.problems
    except VmapError as e:
        why = e.why if isinstance(e, Fault) else e
        problem = Problem(
            ProblemKind.NAMELESS, "kallsyms", f"callers have no names: {why}"
        )
        return addresses, [problem]


class _Reader:
    """One try at reading everything."""

    def __init__(self, target: Target, layout: Layout) -> None:
        target.memory.forget()
        self._target = target
        self._memory = target.memory
        self._layout = layout
        self.problems: List[Problem] = []
        self.lasting: List[Problem] = []

    def areas(self, read: _ReadAreas) -> AreaTable:
        target, layout = self._target, self._layout
        find_lost = partial(find_lost_areas, target, layout)
        reader = AreaReader(target, layout, find_lost)
        busy, *others = [self._plain_table(areas) for areas in read(reader)]
        self.problems += reader.problems
        self.lasting += reader.lasting
        busy = replace(busy, is_block=self._divided_areas(busy))
        self._memory.forget()
        busy = self._without_foreign(self._with_vm_structs(busy))
        busy = replace(busy, numa_pages=self._numa_pages(busy))
        self._check_order(busy)
        return AreaTable.concatenate([busy, *others])

    def _divided_areas(self, busy: AreaTable) -> Array:
        if self._layout.kernel.has_va_flags:
            marks = np.uint64(VMAP_RAM | VMAP_BLOCK)
            divided: Array = busy.va_flags & marks == marks
            return divided
        if self._layout.why_guessed:
            return np.zeros(len(busy), bool)
        try:
            areas, problems = block_areas(self._target)
        except (Fault, SymbolsError) as e:
            why = e.why if isinstance(e, Fault) else e
            detail = f"which areas are divided is not known: {why}"
            self.problems.append(Problem(ProblemKind.UNREADABLE, "vmap_blocks", detail))
            return np.zeros(len(busy), bool)
        self.problems += problems
        return np.isin(busy.address, areas)

    def _check_order(self, busy: AreaTable) -> None:
        """Areas of a node are sorted by address, so neighbours must not overlap."""
        order = np.argsort(busy.start, kind="stable")
        for at in np.flatnonzero(busy.end[order[:-1]] > busy.start[order[1:]]).tolist():
            where = f"vmap_area {busy.address[order[at]]:#x}"
            other = f"vmap_area {busy.address[order[at + 1]]:#x}"
            self.problems.append(
                Problem(ProblemKind.CORRUPT, where, f"overlaps {other}")
            )

    def _with_vm_structs(self, busy: AreaTable) -> AreaTable:
        if not self._layout.vm_struct.names:
            return busy
        has_vm = np.argsort(busy.vm, kind="stable")
        has_vm = has_vm[np.searchsorted(busy.vm, np.uint64(1), sorter=has_vm) :]
        records, ok = self._memory.records(busy.vm[has_vm], self._layout.vm_struct)
        self._memory.forget()
        vm_ok = np.zeros(len(busy), bool)
        vm_ok[has_vm] = ok
        columns = {name: np.zeros(len(busy), np.uint64) for name in _VM_COLUMNS}
        for name, column in columns.items():
            column[has_vm] = _column(records, name)
        vpages = self._in_vmalloc_space(columns["page_array"], busy)
        return replace(busy, vm_ok=vm_ok, vpages=vpages, **columns)

    def _in_vmalloc_space(self, addresses: U64Array, busy: AreaTable) -> Array:
        """Return what is_vmalloc_addr() would of some addresses."""
        inside = _inside(addresses, busy)
        if not (self.problems or self.lasting):
            return inside
        # The area that an address is in may be lost. Others are near it, and nothing in the
        # direct map is, such as their vm_structs.
        near = _distances(addresses, busy.start) < _distances(addresses, busy.vm)
        found: Array = inside | near & (addresses != 0)
        return found

    def _without_foreign(self, table: AreaTable) -> AreaTable:
        """
        Name vm_structs that are lost or not their areas' own.

        On a live kernel the latter are memory that was freed and used again, so
        nothing in them is shown.
        """
        lost = (table.vm != 0) & ~table.vm_ok & bool(self._layout.vm_struct.names)
        for at in np.flatnonzero(lost).tolist():
            where = f"vm_struct {table.vm[at]:#x}"
            detail = f"of area {table.start[at]:#x} cannot be read"
            self.problems.append(Problem(ProblemKind.UNREADABLE, where, detail))
        # setup_vmalloc_vm() copies the start, which may get a tag then.
        addr = self._memory.tags.off_all(table.addr)
        differs = table.vm_ok & (addr != table.start)
        for at in np.flatnonzero(differs).tolist():
            where = f"vm_struct {table.vm[at]:#x}"
            detail = f"says {table.addr[at]:#x}, its area {table.start[at]:#x}"
            self.problems.append(Problem(ProblemKind.CORRUPT, where, detail))
        if not (self._layout.kernel.live and differs.any()):
            return table
        own = {name: np.where(differs, 0, getattr(table, name)) for name in _VM_COLUMNS}
        return replace(
            table,
            vm_ok=table.vm_ok & ~differs,
            vpages=table.vpages & ~differs,
            **{name: column.astype(np.uint64) for name, column in own.items()},
        )

    def _numa_pages(self, table: AreaTable) -> Array:
        kernel = self._layout.kernel
        counts = np.zeros((len(table), len(kernel.numa_nodes)), np.uint64)
        uninitialized = table.flags & vm_flag("VM_UNINITIALIZED") != 0
        wanted = table.vm_ok & (table.nr_pages != 0) & ~uninitialized
        absurd = wanted & (
            (table.nr_pages > table.vm_size // np.uint64(kernel.page_size))
            | (table.page_order >= 32)
        )
        rows = np.flatnonzero(wanted & ~absurd)
        claims = affordable(table.nr_pages[rows], self._target.ram_pages)
        absurd[rows[~claims]] = True
        rows = rows[claims]
        whole = np.ones(len(table), bool)
        if kernel.numa_nodes and len(rows):
            try:
                finder = NodeFinder(self._target.values, self._memory)
            except (Fault, SymbolsError) as e:
                why = e.why if isinstance(e, Fault) else str(e).partition(": ")[0]
                detail = f"N counts are missing: {why}"
                problem = Problem(ProblemKind.UNREADABLE, "node_states", detail)
                self.problems.append(problem)
                return counts
            counts[rows], whole[rows] = finder.count(
                table.page_array[rows],
                table.nr_pages[rows],
                np.left_shift(np.uint64(1), table.page_order[rows]),
                kernel.numa_nodes,
            )
            # Some of its pages would pass for all of them.
            counts[~whole] = 0
            self._memory.forget()
        for at in np.flatnonzero(absurd | ~whole).tolist():
            where = f"vm_struct {table.vm[at]:#x}"
            detail = f"its {table.nr_pages[at]} pages cannot be counted by node"
            self.problems.append(Problem(ProblemKind.UNREADABLE, where, detail))
        return counts

    def _plain_table(self, areas: AreaRecords) -> AreaTable:
        """Make a table that knows of no struct but vmap_area."""
        count = len(areas.address)
        none = np.zeros(count, np.uint64)
        false = np.zeros(count, bool)
        nodes = len(self._layout.kernel.numa_nodes)
        return AreaTable(
            address=areas.address,
            start=_column(areas.records, "va_start"),
            end=_column(areas.records, "va_end"),
            state=np.full(count, int(areas.state), np.uint8),
            vmap_node=areas.vmap_node.astype(np.int16),
            va_flags=_column(areas.records, "flags"),
            is_block=false,
            # In other states, what stands there is no pointer to a vm_struct.
            vm=_column(areas.records, "vm") if areas.state == State.BUSY else none,
            vm_ok=false,
            vpages=false,
            numa_pages=np.zeros((count, nodes), np.uint64),
            owners=np.zeros(count, np.int64),
            **{name: none for name in _VM_COLUMNS},
        )


_VM_COLUMNS = (
    "addr",
    "vm_size",
    "flags",
    "page_array",
    "nr_pages",
    "page_order",
    "phys_addr",
    "caller",
    "requested_size",
)


def _column(records: Array, name: str) -> U64Array:
    """Return a field as a column of its own, zero if this kernel lacks it."""
    if name not in (records.dtype.names or ()):
        return np.zeros(len(records), np.uint64)
    return records[name].astype(np.uint64)


def _distances(addresses: U64Array, places: U64Array) -> U64Array:
    """Return how far each address is from the nearest of some places, of which 0 is none."""
    known = np.unique(np.append(places, np.uint64(0)))[1:]
    if not len(known):
        return np.full(len(addresses), np.iinfo(np.uint64).max)
    at = np.searchsorted(known, addresses)
    above = known[np.minimum(at, len(known) - 1)]
    below = known[np.maximum(at - 1, 0)]
    # What is not above it is below, and far away when it wraps around.
    nearest: U64Array = np.minimum(above - addresses, addresses - below)
    return nearest


def _inside(addresses: U64Array, busy: AreaTable) -> Array:
    """Whether each address lies in a busy area."""
    if not len(busy):
        return np.zeros(len(addresses), bool)
    order = np.argsort(busy.start, kind="stable")
    at = np.searchsorted(busy.start[order], addresses, side="right") - 1
    inside: Array = (at >= 0) & (addresses < busy.end[order][at])
    return inside
