# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernel stacks
-------------

With CONFIG_VMAP_STACK, each task's kernel stack is an area, and so are stacks that CPUs
keep for the next tasks (kernel/fork.c).
"""

from typing import Iterator

from ...._numpy import np
from ....model.owners import Owner, OwnerKind
from ...memory.cpus import per_cpu_addresses, per_cpu_offsets, possible_cpus
from ...types.structs import member_offset, pointer_dtype
from .busy import NONE, BusyAreas, Claim
from .search import Search
from .task_list import Tasks, read_idle_tasks

__all__ = ("cached_stacks", "idle_stacks", "irq_stacks", "task_stacks")

_CACHED = 2
"""NR_CACHED_STACKS."""


def task_stacks(search: Search) -> Iterator[Claim]:
    """Yield the tasks whose stacks areas are."""
    yield from _stacks(search.busy, search.tasks, OwnerKind.TASK)


def idle_stacks(search: Search) -> Iterator[Claim]:
    """Yield the idle tasks of CPUs, of which the first one's stack is in the image."""
    tasks = read_idle_tasks(search.target)
    yield from _stacks(search.busy, tasks, OwnerKind.IDLE_TASK)


def cached_stacks(search: Search) -> Iterator[Claim]:
    """Yield the CPUs that keep areas for the stacks of tasks to come."""
    target = search.target
    places = per_cpu_addresses(
        target.values, "cached_stacks", possible_cpus(target.values)
    )
    word = pointer_dtype(target.prog)
    for cpu, address in places.items():
        held = target.memory.array(address, _CACHED, word).astype(np.uint64)
        for row in search.busy.of_vm(held).tolist():
            if row != NONE:
                owner = Owner(
                    OwnerKind.CACHED_STACK,
                    f"CPU {cpu}",
                    detail="for the next task",
                    proof="cached_stacks",
                )
                yield row, owner


def irq_stacks(search: Search) -> Iterator[Claim]:
    """Yield the CPUs whose interrupts areas are the stacks of, on x86-64."""
    target = search.target
    cpus = possible_cpus(target.values)
    word = pointer_dtype(target.prog)
    # Since Linux kernel commit d7b6d709a76a ("x86/percpu: Move irq_stack variables next to
    # current_task") (in v6.2), and for a while, it was part of another variable.
    offset = member_offset(target.prog, "struct pcpu_hot", "hardirq_stack_ptr")
    name = "hardirq_stack_ptr" if offset is None else "pcpu_hot"
    first = search.symbol(name)
    if first is None:
        return
    for cpu, shift in per_cpu_offsets(target.values, cpus).items():
        place = (first + shift + (offset or 0)) % (1 << 64)
        top = target.memory.array(place, 1, word).astype(np.uint64)
        for _, row in search.busy.pairs(top):
            owner = Owner(OwnerKind.IRQ_STACK, f"CPU {cpu}", proof=name)
            yield row, owner


def _stacks(busy: BusyAreas, tasks: Tasks, kind: OwnerKind) -> Iterator[Claim]:
    rows = busy.starting(tasks.stack)
    # A task that is about to be gone may have given its stack to another one.
    same = (tasks.stack_vm == 0) | (busy.areas.vm[rows] == tasks.stack_vm)
    for at in np.flatnonzero((rows != NONE) & same).tolist():
        yield int(rows[at]), Owner(
            kind,
            tasks.name(at),
            int(tasks.pid[at]),
            "kernel stack",
            "task_struct.stack",
        )
