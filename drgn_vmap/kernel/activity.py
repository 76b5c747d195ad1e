# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Activity
--------

Who may have been about to change areas when a vmcore was taken: what looks damaged
may then be legal for that moment.
"""

import json
import re
from typing import Iterator, Optional, Sequence, Tuple

from drgn import FaultError, Program, ProgramFlags
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.sched import cpu_curr

from .debug_info import ensure_types

__all__ = ("SLICE_NOTE", "activity", "activity_note")

SLICE_NOTE = "VMAP_SLICE_ACTIVITY"
"""The line of VMCOREINFO that only slices have."""


def activity(prog: Program) -> Tuple[str, ...]:
    """
    Return what may have been stopped amidst a change; nothing on a live kernel.

    A slice has no stacks, so there it is what :func:`activity_note` says.
    """
    text = prog["VMCOREINFO"].string_().decode("utf-8", "replace")
    noted = re.search(rf"^{SLICE_NOTE}=(.*)$", text, re.M)
    if noted:
        return tuple(json.loads(noted[1]))
    return () if prog.flags & ProgramFlags.IS_LIVE else tuple(_activity(prog))


def activity_note(active: Sequence[str]) -> str:
    """Return the line that a slice's VMCOREINFO gets."""
    return f"{SLICE_NOTE}={json.dumps(active)}\n"


def _activity(prog: Program) -> Iterator[str]:
    """Yield what in a vmcore may have been stopped amidst a change."""
    cpus = list(for_each_online_cpu(prog))
    # Without DWARF, callers cannot be followed, and files have no names.
    if ensure_types(prog) == "btf":
        yield "what CPUs did is not known without debug info"
        cpus = []
    for cpu in cpus:
        try:
            function = _vmalloc_frame(prog, cpu)
        except (FaultError, LookupError, ValueError) as e:
            yield f"CPU {cpu}'s stack is not known ({e})"
        else:
            if function:
                yield f"CPU {cpu} was in {function}()"
    # purge_vmap_area_lazy() sleeps while areas are in no list of ours.
    try:
        holder = prog["vmap_purge_lock"].owner.counter.value_()
    except (KeyError, AttributeError, FaultError):
        return
    if holder & ~7:
        yield f"task {holder & ~7:#x} held vmap_purge_lock"


def _vmalloc_frame(prog: Program, cpu: int) -> Optional[str]:
    """Return the function of mm/vmalloc.c that a CPU was in."""
    for frame in prog.stack_trace(cpu_curr(prog, cpu)):
        try:
            source = frame.source()[0]
        except LookupError:
            continue
        if source.endswith("mm/vmalloc.c"):
            return frame.name
    return None
