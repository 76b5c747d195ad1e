# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The series on powerpc and sh
----------------------------

Two of its patches change but a flag of areas that code of an architecture makes, so
these areas tell, in a kernel and in a copy of /proc/vmallocinfo as well.
"""

from typing import Iterable, Iterator, Sequence

from .._numpy import Array, np
from ..model.areas import VM_FLAGS, Snapshot, State, vm_flag
from ..model.series import PatchVerdict, Strength
from .answer import Answer

__all__ = ("POWERPC", "SH", "powerpc_answer", "powerpc_rows", "sh_answer", "sh_rows")

POWERPC = "PPC64"
SH = "SH"
"""drgn has no name for it, so it is among the :data:`_NAMELESS`."""
_NAMELESS = ("", "UNKNOWN")

_SHOWN = 4

# Callers of __get_vm_area_caller() in arch/powerpc/kernel/pci_64.c. Which of them
# names itself depends on what the compiler inlined.
_PHB_CALLERS = (
    "ioremap_phb",
    "pcibios_map_phb_io_space",
    "pcibios_map_io_space",
    "pcibios_setup_phb_io_space",
)
# In arch/sh/kernel/cpu/sh4/sq.c, __sq_remap() names its return address: where it is
# inlined, that is in whoever called sq_remap().
_SQ_CALLERS = ("sq_remap", "__sq_remap")
# P3SEG, P4SEG and SQ_ADDRMAX of arch/sh/include.
_P3, _P4, _SQ_END = (np.uint64(at) for at in (0xC0000000, 0xE0000000, 0xE4000000))


def powerpc_answer(
    snapshot: Snapshot, architecture: str, addresses_known: bool = True
) -> Answer:
    """Judge the areas of PCI host bridges' I/O space."""
    if architecture not in (POWERPC, ""):
        return _not_there(architecture)
    rows = powerpc_rows(snapshot)
    if not len(rows):
        return _nothing("of PCI I/O space, made by pcibios_map_phb_io_space()")
    is_ioremap = snapshot.areas.flags[rows] & vm_flag("VM_IOREMAP") != 0
    evidence = _lines(snapshot, rows, is_ioremap, addresses_known)
    return _judged(is_ioremap, Strength.STRONG, evidence)


def powerpc_rows(snapshot: Snapshot) -> Array:
    """Return the rows of areas of PCI host bridges' I/O space."""
    return np.flatnonzero(_called_by(snapshot, _PHB_CALLERS))


def sh_answer(
    snapshot: Snapshot, architecture: str, addresses_known: bool = True
) -> Answer:
    """
    Judge the areas of store queues.

    :param addresses_known: Whether the areas' addresses are real ones.
    """
    if architecture not in (SH, *_NAMELESS):
        return _not_there(architecture)
    rows = sh_rows(snapshot, addresses_known)
    if not len(rows):
        return _nothing("of a store queue, made by sq_remap()")
    flags = snapshot.areas.flags[rows]
    is_alloc = flags & vm_flag("VM_ALLOC") != 0
    is_ioremap = ~is_alloc & (flags & vm_flag("VM_IOREMAP") != 0)
    named = _called_by(snapshot, _SQ_CALLERS)[rows]
    strong = bool((named | is_alloc).any())
    strength = Strength.STRONG if strong else Strength.WEAK
    evidence = _lines(snapshot, rows, is_ioremap, addresses_known)
    return _judged(is_ioremap, strength, evidence)


def sh_rows(snapshot: Snapshot, addresses_known: bool = True) -> Array:
    """
    Return the rows of areas of store queues.

    These are areas that sq_remap() names as its own; areas of VM_ALLOC that have a
    physical address, which nobody else makes; and ioremap areas in the store queues'
    range, if all other areas are in the range that sh has for them.
    """
    areas = snapshot.areas
    remapped = (areas.state == State.BUSY) & (areas.phys_addr != 0)
    remapped &= areas.nr_pages == 0
    is_old = remapped & (areas.flags & vm_flag("VM_ALLOC") != 0)
    found = _called_by(snapshot, _SQ_CALLERS) | is_old
    if addresses_known:
        in_queues = (areas.start >= _P4) & (areas.end <= _SQ_END)
        in_p3 = (areas.start >= _P3) & (areas.end <= _P4)
        listed = (areas.state == State.BUSY) | (areas.state == State.LAZY)
        if in_p3.any() and (in_queues | in_p3)[listed].all():
            found |= in_queues & remapped
    return np.flatnonzero(found)


def _called_by(snapshot: Snapshot, functions: Sequence[str]) -> Array:
    """Return which areas have one of these functions as caller."""
    wanted = [
        address
        for address, text in snapshot.callers.items()
        if text.partition("+")[0] in functions
    ]
    found: Array = np.isin(snapshot.areas.caller, np.array(wanted, np.uint64))
    return found


def _not_there(architecture: str) -> Answer:
    evidence = f"this kernel runs on {architecture}, which has no such code"
    return Answer(PatchVerdict.NOT_APPLICABLE, Strength.CERTAIN, (evidence,))


def _nothing(what: str) -> Answer:
    evidence = f"there is no area {what}, so nothing tells"
    return Answer(PatchVerdict.UNKNOWN, Strength.WEAK, (evidence,))


def _judged(is_ioremap: Array, strength: Strength, evidence: Iterable[str]) -> Answer:
    verdict = PatchVerdict.YES if is_ioremap.all() else PatchVerdict.NO
    return Answer(verdict, strength, tuple(evidence))


def _lines(
    snapshot: Snapshot, rows: Array, is_ioremap: Array, addresses_known: bool
) -> Iterator[str]:
    """Yield what each area is; first come those that say no."""
    areas = snapshot.areas
    for row in rows[np.argsort(is_ioremap, kind="stable")][:_SHOWN].tolist():
        start, end, flags = (int(c[row]) for c in (areas.start, areas.end, areas.flags))
        where = f"{start:#x}-{end:#x}" if addresses_known else f"{end - start} bytes"
        caller = snapshot.callers.get(int(areas.caller[row]), "an unknown caller")
        names = [name for name in ("VM_IOREMAP", "VM_ALLOC") if flags & VM_FLAGS[name]]
        has = " and ".join(names) or "neither VM_IOREMAP nor VM_ALLOC"
        yield f"the area of {caller}, {where}, has {has}"
    if len(rows) > _SHOWN:
        yield f"and {len(rows) - _SHOWN} more such areas"
