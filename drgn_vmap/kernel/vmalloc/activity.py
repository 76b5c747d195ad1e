# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Activity
--------

Who may have been about to change areas when a vmcore was taken: what looks damaged
may then be legal for that moment.
"""

import json
from typing import Iterator, Optional, Sequence, Tuple

from drgn.helpers.linux.sched import cpu_curr

from ...errors import Fault
from ..doors import door
from ..memory.cpus import online_cpus
from ..target import Target
from ..types.vmcoreinfo import SLICE_NOTE

__all__ = ("activity", "activity_note")


def activity(target: Target) -> Tuple[str, ...]:
    """
    Return what may have been stopped amidst a change; nothing on a live kernel.

    A slice has no stacks, so there it is what :func:`activity_note` says.
    """
    note = target.vmcoreinfo.notes.get(SLICE_NOTE)
    if note is not None:
        return _noted(note)
    return () if target.live else tuple(_activity(target))


def activity_note(active: Sequence[str]) -> str:
    """Return the line that a slice's VMCOREINFO gets."""
    return f"{SLICE_NOTE}={json.dumps(active)}\n"


def _noted(note: str) -> Tuple[str, ...]:
    try:
        active = json.loads(note)
    except (ValueError, RecursionError):
        active = None
    if not isinstance(active, list) or not all(isinstance(one, str) for one in active):
        return ("what the slice notes of this is damaged",)
    return tuple(active)


def _activity(target: Target) -> Iterator[str]:
    """Yield what in a vmcore may have been stopped amidst a change."""
    # Without DWARF, callers cannot be followed, and files have no names.
    if not target.has_dwarf:
        yield "what CPUs did is not known without debug info"
    else:
        yield from _stopped_cpus(target)
    # purge_vmap_area_lazy() sleeps while areas are in no list of ours.
    try:
        holder = _purge_lock_owner(target)
    except Fault:
        return
    if holder:
        yield f"task {holder:#x} held vmap_purge_lock"


def _purge_lock_owner(target: Target) -> int:
    """
    Return the address of the task that holds vmap_purge_lock, 0 if none is known to.

    :raises Fault: if that cannot be read.
    """
    number = target.values.number
    owner = number(lambda prog: prog["vmap_purge_lock"].owner.counter)
    if owner is None:
        # With PREEMPT_RT, a mutex is made of another kind of lock.
        owner = number(lambda prog: prog["vmap_purge_lock"].rtmutex.owner)
    # Both have flags in the lowest bits, and one is a signed number.
    return (owner or 0) % (1 << 64) & ~7


def _stopped_cpus(target: Target) -> Iterator[str]:
    for cpu in online_cpus(target.values):
        try:
            function = _vmalloc_frame(target, cpu)
        except Fault as e:
            yield f"CPU {cpu}'s stack is not known ({e.why})"
        else:
            if function:
                yield f"CPU {cpu} was in {function}()"


def _vmalloc_frame(target: Target, cpu: int) -> Optional[str]:
    """Return the function of mm/vmalloc.c that a CPU was in."""
    with door():
        for frame in target.prog.stack_trace(cpu_curr(target.prog, cpu)):
            try:
                source = frame.source()[0]
            except LookupError:
                continue
            if source.endswith("mm/vmalloc.c"):
                return frame.name
    return None
