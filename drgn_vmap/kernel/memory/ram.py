# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
RAM
---

Where RAM is, as the kernel's tree of resources (/proc/iomem) says.
"""

from typing import List, Tuple

from ...errors import Fault, TargetError
from ...model.areas import Problem, ProblemKind
from ..doors import Values
from ..types.structs import need_offset, record_dtype
from .bulk import Memory

__all__ = ("ram_ranges",)

_WHERE = "iomem_resource"
_MAX_RESOURCES = 1 << 16
_MEMBERS = ("start", "end", "flags", "sibling", "child")
_SYSTEM_RAM = 0x200 | 0x01000000 | 0x80000000
"""IORESOURCE_MEM, _SYSRAM and _BUSY, macros of include/linux/ioport.h."""
_ADVICE = "take a vmcore that is neither damaged nor cut short"

_Ranges = List[Tuple[int, int]]


def ram_ranges(
    values: Values, memory: Memory, frames: int
) -> Tuple[_Ranges, List[Problem]]:
    """
    Return the page frames of RAM as /proc/kcore has them, less those of a crash kernel.

    :param frames: How many there are, with those between that are no RAM.
    :return: Ascending ranges that do not overlap, and what may be missing.
    :raises TargetError: if there are none.
    :raises SymbolsError: if the tree of resources is not known.
    """
    found, problems = _system_ram(values, memory)
    ranges: _Ranges = []
    done = 0
    for start, end in sorted(found):
        start, end = -(-start // memory.page_size), end // memory.page_size
        if end > frames:
            detail = f"RAM has frames up to {end:#x}, nodes up to {frames:#x}"
            problems.append(Problem(ProblemKind.CORRUPT, _WHERE, detail))
        start, end = max(start, done), min(end, frames)
        if start < end:
            ranges.append((start, end))
            done = end
    for name in ("crashk_res", "crashk_low_res"):
        ranges = _without(ranges, *_crash_kernel(values, name, memory.page_size))
    if not ranges:
        raise TargetError(f"iomem_resource has no System RAM: {_ADVICE}")
    return ranges, problems


def _system_ram(values: Values, memory: Memory) -> Tuple[_Ranges, List[Problem]]:
    """Return where System RAM begins and ends, in any order, and what cannot be read."""
    for member in _MEMBERS:
        need_offset(values.prog, "struct resource", member)
    resource_dtype = record_dtype(
        values.prog, "struct resource", {name: name for name in _MEMBERS}
    )
    root = values.number(lambda prog: prog["iomem_resource"].child)
    found: _Ranges = []
    problems: List[Problem] = []
    waiting, seen = [values.need("iomem_resource", root)], set()
    while waiting:
        address = waiting.pop()
        if not address or address in seen:
            continue
        seen.add(address)
        if len(seen) > _MAX_RESOURCES:
            raise TargetError(f"iomem_resource has no end: {_ADVICE}")
        try:
            resource = memory.record(address, resource_dtype)
        except Fault as e:
            detail = f"RAM may be missing: resource {address:#x}: {e.why}"
            problems.append(Problem(ProblemKind.UNREADABLE, _WHERE, detail))
            continue
        waiting.append(int(resource["sibling"]))
        if int(resource["flags"]) & _SYSTEM_RAM == _SYSTEM_RAM:
            found.append((int(resource["start"]), int(resource["end"]) + 1))
        else:
            waiting.append(int(resource["child"]))
    return found, problems


def _crash_kernel(values: Values, name: str, page_size: int) -> Tuple[int, int]:
    """Return the frames that are reserved for a crash kernel; none is an empty range."""
    start, end = (
        values.number(lambda prog: prog[name].member_(member))
        for member in ("start", "end")
    )
    if start is None or end is None:
        return 0, 0  # Built without CONFIG_CRASH_CORE.
    return (start // page_size, (end + 1) // page_size) if end else (0, 0)


def _without(ranges: _Ranges, start: int, end: int) -> _Ranges:
    """Cut a range out of others."""
    cut = [part for a, b in ranges for part in ((a, min(b, start)), (max(a, end), b))]
    return [(a, b) for a, b in cut if a < b] if start < end else ranges
