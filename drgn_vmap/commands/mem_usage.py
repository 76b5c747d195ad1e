# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Show what memory is used for, and how much of it vmalloc areas map.

Prints the table of `makedumpfile --mem-usage /proc/kcore`, of vmcores as well.
Each page of RAM is in one class; those that say "yes" are what `makedumpfile -d
31` leaves out of a dump. VMALLOC says how many of a class vmalloc areas map:
those that are excludable are missing when somebody looks at the areas in such a
dump.

Classes, names and their order of precedence are makedumpfile's. So is what RAM
is: what /proc/iomem calls System RAM, less what is reserved for a crash kernel.
Two differences are meant: the kernel's image is counted once, where
makedumpfile counts it twice as /proc/kcore has it twice, and no crashkernel
need be reserved. Pages that are offline, as a balloon's are, or poisoned have
no class in either table; here a line counts them.

Each struct page is read, and each page that is left in the end, to see whether
it is all zeros: the time it takes grows with the target's memory, the memory it
takes does not. A slice has too few of both. The kernel's struct pages have to
be in one array (vmemmap).

  vmap mem-usage
  vmap mem-usage --json

Exit status: 0, or 1 if parts of a vmcore could not be read, or 2 if it cannot.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from ..analyses.mem_usage import PageTally
from ..errors import TargetError
from ..kernel.memory.ram import ram_ranges
from ..kernel.vmalloc.mappings import vmalloc_frames
from ..kernel.vmalloc.snapshot import take_snapshot
from ..model.mem_usage import MemUsage
from ..render.mem_usage import mem_usage_json, mem_usage_text
from ..render.records import document
from .common import add_json, problem_status, warn_of_problems, write_text
from .progress import Progress

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "count", "run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mem-usage``."""
    add_json(parser)


def run(target: "Target", args: argparse.Namespace) -> int:
    """Print the table."""
    usage = count(target)
    if args.json:
        body = mem_usage_json(usage)
        sys.stdout.write(document("mem-usage", usage.kernel, usage.problems, **body))
    else:
        write_text(mem_usage_text(usage))
        warn_of_problems("mem-usage", usage.problems)
    return problem_status(usage.problems)


def count(target: "Target") -> MemUsage:
    """
    Look at each page of RAM.

    :raises VmapError: if nothing tells where they are.
    """
    if target.vmcoreinfo.is_slice:
        raise TargetError(
            "a slice has too little of RAM: ask the vmcore that it was cut from"
        )
    frames, memory = target.frames, target.memory
    classifier = target.page_classifier()
    ranges, problems = ram_ranges(target.values, memory, frames.count())
    whole = sum(end - first for first, end in ranges)
    snapshot = take_snapshot(target)
    mapped, lost = vmalloc_frames(target, snapshot)
    tally = PageTally(mapped)
    with Progress("mem-usage", "pages") as progress:
        for first, classes in classifier.classes(ranges):
            tally.add(first, classes)
            progress.update(tally.total, whole)
    problems += (*snapshot.problems, *lost, *classifier.problems(target.live))
    return MemUsage(snapshot.kernel, tally.pages, tally.mapped, tuple(problems))
