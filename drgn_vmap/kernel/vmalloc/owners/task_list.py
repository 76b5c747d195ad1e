# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
All tasks
---------

Reads every task there is at once, by the kernel's table of PIDs.
"""

from dataclasses import dataclass

from ...._numpy import Array, Record, U64Array, np
from ...memory.cpus import per_cpu_addresses, possible_cpus
from ...target import Target
from ...types.structs import need_offset, pointer_dtype
from .idr import idr_entries

__all__ = ("Tasks", "read_idle_tasks", "read_tasks")

_COMM_BYTES = 16
"""TASK_COMM_LEN."""
_LINKS = "pid_links"


@dataclass(frozen=True)
class Tasks:
    """Tasks as columns."""

    address: U64Array
    pid: Array
    comm: Array
    """As bytes, which a zero ends."""
    stack: U64Array
    """The lowest address of the kernel stack."""
    stack_vm: U64Array
    """The ``struct vm_struct`` of it, zero where tasks do not note it."""
    files: U64Array
    """The ``struct files_struct``, which the threads of a process share."""

    def name(self, row: int) -> str:
        """Return a task's comm."""
        raw = self.comm[row].tobytes().partition(b"\0")[0]
        return raw.decode("utf-8", "backslashreplace")


def read_tasks(target: Target) -> Tasks:
    """
    Read all tasks that have a PID.

    :raises SymbolsError: if where they are is not known.
    :raises Fault: if that cannot be read.
    """
    prog, values = target.prog, target.values
    # Since Linux kernel commit 95846ecf9dac ("pid: replace pid bitmap implementation with
    # IDR API") (in v4.15).
    space = values.need("init_pid_ns", values.address("init_pid_ns"))
    table = space + need_offset(prog, "struct pid_namespace", "idr")
    pids = idr_entries(target, table)
    # Since Linux kernel commit 2c4704756cab ("pids: Move the pgrp and session pid
    # pointers from task_struct to signal_struct") (in v4.19), of each kind the first one.
    first = _words(target, pids + np.uint64(need_offset(prog, "struct pid", "tasks")))
    link = np.uint64(need_offset(prog, "struct task_struct", _LINKS))
    # A PID may be that of a group or session whose first process is gone.
    return _read(target, np.sort(first[first != 0]) - link)


def read_idle_tasks(target: Target) -> Tasks:
    """Read the idle task of each CPU, whose PID is 0; raises the same."""
    at = per_cpu_addresses(target.values, "idle_threads", possible_cpus(target.values))
    tasks = _words(target, np.array([*at.values()], np.uint64))
    return _read(target, tasks[tasks != 0])


def _read(target: Target, tasks: U64Array) -> Tasks:
    """Read the members of tasks, each of which is larger than a page."""

    def column(member: str, dtype: Record) -> Array:
        offset = np.uint64(need_offset(target.prog, "struct task_struct", member))
        return target.memory.records(tasks + offset, dtype)[0]

    pointer = pointer_dtype(target.prog)
    order = pointer.byteorder
    has_vm = target.values.number(
        lambda prog: prog["init_task"].member_("stack_vm_area")
    )
    return Tasks(
        address=tasks,
        pid=column("pid", np.dtype("i4").newbyteorder(order)),
        comm=column("comm", np.dtype(f"V{_COMM_BYTES}")),
        stack=column("stack", pointer).astype(np.uint64),
        stack_vm=(
            np.zeros_like(tasks)
            if has_vm is None
            else column("stack_vm_area", pointer).astype(np.uint64)
        ),
        files=column("files", pointer).astype(np.uint64),
    )


def _words(target: Target, addresses: U64Array) -> U64Array:
    """Read a pointer at each address; zero where that cannot be."""
    found, _ = target.memory.records(addresses, pointer_dtype(target.prog))
    return found.astype(np.uint64)
