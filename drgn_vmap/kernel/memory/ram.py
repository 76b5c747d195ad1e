# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
RAM
---

Where RAM is, as the kernel's tree of resources (/proc/iomem) says.
"""

from typing import List, Tuple

from ...errors import TargetError
from ...model.areas import Problem, ProblemKind
from ..doors import Values
from .bulk import Memory
from .resources import IOMEM, resources

__all__ = ("ram_ranges",)

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
    found, problems = resources(values, memory, lambda one: not one.is_ram)
    ranges: _Ranges = []
    done = 0
    for start, end in sorted((one.start, one.end + 1) for one in found if one.is_ram):
        start, end = -(-start // memory.page_size), end // memory.page_size
        if end > frames:
            detail = f"RAM has frames up to {end:#x}, nodes up to {frames:#x}"
            problems.append(Problem(ProblemKind.CORRUPT, IOMEM, detail))
        start, end = max(start, done), min(end, frames)
        if start < end:
            ranges.append((start, end))
            done = end
    for name in ("crashk_res", "crashk_low_res"):
        ranges = _without(ranges, *_crash_kernel(values, name, memory.page_size))
    if not ranges:
        raise TargetError(f"{IOMEM} has no System RAM: {_ADVICE}")
    return ranges, problems


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
