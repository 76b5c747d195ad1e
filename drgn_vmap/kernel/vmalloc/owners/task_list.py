# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
All tasks
---------

Reads every task there is at once, by the kernel's table of PIDs.
"""

from dataclasses import dataclass
from typing import Tuple

from ...._numpy import Array, Record, U64Array, np
from ....model.areas import Problem
from ...memory.cpus import per_cpu_addresses, possible_cpus
from ...target import Target
from ...types.structs import need_offset, record_dtype, word_dtype
from ..trees import read_xarrays

__all__ = ("Tasks", "read_idle_tasks", "read_tasks")

_TIMES = 4
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
    problems: Tuple[Problem, ...]

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
    head = space + need_offset(prog, "struct pid_namespace", "idr.idr_rt.xa_head")
    node = record_dtype(prog, "struct xa_node", {"slots": "slots"})
    pids, _, problems = read_xarrays(
        target.memory,
        np.array([head], np.uint64),
        node,
        _TIMES if target.live else 1,
    )
    pids = np.sort(pids)
    # Since Linux kernel commit 2c4704756cab ("pids: Move the pgrp and session pid
    # pointers from task_struct to signal_struct") (in v4.19), of each kind the first one.
    first = _words(target, pids + np.uint64(need_offset(prog, "struct pid", "tasks")))
    link = np.uint64(need_offset(prog, "struct task_struct", _LINKS))
    # A PID may be that of a group or session whose first process is gone.
    return _read(target, np.sort(first[first != 0]) - link, problems)


def read_idle_tasks(target: Target) -> Tasks:
    """Read the idle task of each CPU, whose PID is 0; raises the same."""
    at = per_cpu_addresses(target.values, "idle_threads", possible_cpus(target.values))
    tasks = _words(target, np.array([*at.values()], np.uint64))
    return _read(target, tasks[tasks != 0], ())


def _read(target: Target, tasks: U64Array, problems: Tuple[Problem, ...]) -> Tasks:
    """Read the members of tasks, each of which is larger than a page."""

    def column(member: str, dtype: Record) -> Array:
        offset = np.uint64(need_offset(target.prog, "struct task_struct", member))
        return target.memory.records(tasks + offset, dtype)[0]

    word = word_dtype(target.prog)
    order = word.byteorder
    has_vm = target.values.number(
        lambda prog: prog["init_task"].member_("stack_vm_area")
    )
    return Tasks(
        address=tasks,
        pid=column("pid", np.dtype("i4").newbyteorder(order)),
        comm=column("comm", np.dtype(f"V{_COMM_BYTES}")),
        stack=column("stack", word).astype(np.uint64),
        stack_vm=(
            np.zeros_like(tasks)
            if has_vm is None
            else column("stack_vm_area", word).astype(np.uint64)
        ),
        files=column("files", word).astype(np.uint64),
        problems=problems,
    )


def _words(target: Target, addresses: U64Array) -> U64Array:
    """Read a pointer at each address; zero where that cannot be."""
    found, _ = target.memory.records(addresses, word_dtype(target.prog))
    return found.astype(np.uint64)
