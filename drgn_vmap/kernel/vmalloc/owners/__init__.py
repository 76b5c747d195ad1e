# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Owners of areas
---------------

Whose an area is, told by who points at it. Each kind of owner is looked for by itself, in
a file of its own, and for all areas at once.
"""

from dataclasses import replace
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ...._numpy import np
from ....errors import Fault, SymbolsError
from ....model.areas import Problem, ProblemKind, Snapshot
from ....model.owners import Owner
from ...target import Target
from ..racing import as_races
from .bpf import bpf_maps, bpf_programs, jit_memory
from .busy import Claim
from .fd_tables import fd_tables
from .modules import modules
from .page_arrays import page_arrays
from .percpu import percpu_chunks, percpu_memory
from .search import Search
from .slab import slab_objects
from .stacks import cached_stacks, idle_stacks, irq_stacks, task_stacks
from .variables import variables

__all__ = ("jit_memory", "percpu_memory", "with_owners")

_Source = Callable[[Search], Iterator[Claim]]
_OwnersByRow = Dict[int, Dict[Owner, None]]
"""Each owner of an area once, by the area's row."""

_SOURCES: Mapping[str, _Source] = {
    "tasks": task_stacks,
    "idle tasks": idle_stacks,
    "cached stacks": cached_stacks,
    "interrupts' stacks": irq_stacks,
    "modules": modules,
    "BPF programs": bpf_programs,
    "BPF maps": bpf_maps,
    "per-CPU chunks": percpu_chunks,
    "arrays of pages": page_arrays,
    "tables of open files": fd_tables,
}
_LAST: Mapping[str, _Source] = {"variables": variables}
"""
What is looked for last, and told only of areas that have no other owner: much points to
an area without owning it, such as what counts or checks all modules.
"""

_NOT_IN_SLICES = Problem(
    ProblemKind.UNREADABLE,
    "owners",
    "a slice has no tasks, programs or variables: ask the vmcore that it was cut from",
)


def with_owners(
    target: Target,
    snapshot: Snapshot,
    on_read: Optional[Callable[[int, int], None]] = None,
) -> Snapshot:
    """
    Return a snapshot with the owners of its areas in use.

    Where a kind of owner cannot be looked for, that is a problem.

    :param on_read: If given, all of RAM is searched for slab objects that point to the
        areas that have no other owner, or only variables, which may be left over from an
        area before; called with how many pages were read, of how many.
    """
    search = Search(target, snapshot)
    problems: List[Problem] = []
    owners = _owners(search, _SOURCES, problems)
    sure = set(owners)
    # Word by word, a slice is slow to look through for what it has not.
    last = {} if target.vmcoreinfo.is_slice else _LAST
    for row, some in _owners(search, last, problems).items():
        owners.setdefault(row, some)
    if on_read:
        wanted = {int(row) for row in search.busy.rows} - sure
        deep = {
            "slab objects": lambda one: slab_objects(one, wanted, on_read, problems)
        }
        for row, some in _owners(search, deep, problems).items():
            owners.setdefault(row, {}).update(some)
    target.memory.forget()
    if target.vmcoreinfo.is_slice:
        problems = [_NOT_IN_SLICES]
    return _attached(snapshot, owners, as_races(snapshot.kernel, problems))


def _owners(
    search: Search, sources: Mapping[str, _Source], problems: List[Problem]
) -> _OwnersByRow:
    """Look for some kinds of owners; add what could not be looked for."""
    owners: _OwnersByRow = {}
    for what, source in sources.items():
        try:
            for row, owner in source(search):
                owners.setdefault(row, {})[owner] = None
        except SymbolsError:
            continue  # This kernel has none of these.
        except Fault as e:
            detail = f"no owner is one of these: {e.why}"
            problems.append(Problem(ProblemKind.UNREADABLE, what, detail))
    return owners


def _attached(
    snapshot: Snapshot,
    owners: _OwnersByRow,
    problems: Sequence[Problem],
) -> Snapshot:
    """Put owners into a snapshot, each set of them once."""
    sets: Dict[Tuple[Owner, ...], int] = {(): 0}
    column = np.zeros(len(snapshot.areas), np.int64)
    for row, some in owners.items():
        column[row] = sets.setdefault(tuple(some), len(sets))
    return replace(
        snapshot,
        areas=replace(snapshot.areas, owners=column),
        owners=tuple(sets),
        problems=(*snapshot.problems, *problems),
    )
