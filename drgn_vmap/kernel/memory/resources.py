# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Resources
---------

What is at physical addresses, as the kernel's tree of resources (/proc/iomem) says: RAM,
devices, and what the firmware keeps.
"""

from typing import Callable, List, NamedTuple, Set, Tuple

from ...errors import Fault
from ...model.areas import Problem, ProblemKind
from ..doors import Values
from ..types.structs import record_dtype
from .bulk import Memory

__all__ = ("IOMEM", "Resource", "resources", "resource_name")

IOMEM = "iomem_resource"
_MAX_RESOURCES = 1 << 16
"""More than /proc/iomem has lines."""
_MAX_NAME = 256
_MEMBERS = ("start", "end", "name", "flags", "sibling", "child")
_SYSTEM_RAM = 0x200 | 0x01000000 | 0x80000000
"""IORESOURCE_MEM, _SYSRAM and _BUSY, macros of include/linux/ioport.h."""


class Resource(NamedTuple):
    """One ``struct resource``."""

    start: int
    end: int
    """The last address in it."""
    is_ram: bool
    """Whether it is System RAM."""
    name_address: int


def resources(
    values: Values, memory: Memory, is_entered: Callable[[Resource], bool]
) -> Tuple[List[Resource], List[Problem]]:
    """
    Walk the tree.

    :param is_entered: Whether what is inside of a resource is wanted as well.
    :return: The root first, each resource before those inside of it, and where the tree
        is damaged: what hangs there is missing.
    :raises SymbolsError: if the tree is not known.
    """
    dtype = record_dtype(
        values.prog, "struct resource", {name: name for name in _MEMBERS}
    )
    found: List[Resource] = []
    problems: List[Problem] = []
    waiting = [values.need(IOMEM, values.address(IOMEM))]
    seen: Set[int] = set()

    def is_damaged(kind: ProblemKind, detail: str) -> None:
        problems.append(Problem(kind, IOMEM, f"RAM may be missing: {detail}"))

    while waiting:
        address = waiting.pop()
        if not address:
            continue
        if address in seen:
            is_damaged(ProblemKind.CORRUPT, f"resource {address:#x} is there twice")
            continue
        if len(seen) == _MAX_RESOURCES:
            is_damaged(ProblemKind.CORRUPT, f"more than {_MAX_RESOURCES} resources")
            break
        seen.add(address)
        try:
            record = memory.record(address, dtype)
        except Fault as e:
            is_damaged(ProblemKind.UNREADABLE, f"resource {address:#x}: {e.why}")
            continue
        resource = Resource(
            int(record["start"]),
            int(record["end"]),
            int(record["flags"]) & _SYSTEM_RAM == _SYSTEM_RAM,
            int(record["name"]),
        )
        found.append(resource)
        waiting.append(int(record["sibling"]))
        if is_entered(resource):
            waiting.append(int(record["child"]))
    return found, problems


def resource_name(memory: Memory, resource: Resource) -> str:
    """
    Return what a resource is called.

    :raises Fault: if that cannot be read.
    """
    if not resource.name_address:
        return "(no name)"
    text = memory.string(resource.name_address, _MAX_NAME)
    return text.decode("utf-8", "backslashreplace")
