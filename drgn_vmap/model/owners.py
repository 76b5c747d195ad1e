# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Owners
------

Whose an area is: told by who points at it, never by its caller's name.
"""

import enum
from dataclasses import dataclass
from typing import Optional

__all__ = ("Owner", "OwnerKind")


class OwnerKind(str, enum.Enum):
    """What owns an area; each is equal to its word."""

    TASK = "task"
    """A task's kernel stack."""
    IDLE_TASK = "idle-task"
    """That of the task that a CPU runs when there is nothing to do."""
    CACHED_STACK = "cached-stack"
    """A kernel stack of no task, which its CPU keeps for the next one."""
    IRQ_STACK = "irq-stack"
    """The stack that a CPU's interrupts have."""
    MODULE = "module"
    BPF_PROGRAM = "bpf-program"
    BPF_MAP = "bpf-map"
    PERCPU = "percpu"
    """A chunk of per-CPU memory, which many share."""
    PAGE_ARRAY = "page-array"
    """The array of another area's pages."""
    FDTABLE = "fdtable"
    """The table of a process's open files."""
    VARIABLE = "variable"
    """A static variable, or one of its members."""
    SLAB = "slab"
    """An object of a slab cache."""

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Owner:
    """Who points at an area."""

    kind: OwnerKind
    name: str
    """Such as a task's comm; a target may have chosen it."""
    id: Optional[int] = None
    """Such as a PID, if it has one."""
    detail: str = ""
    """What more is known."""
    proof: str = ""
    """What points at the area."""
