# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The series in mm/vmalloc.c
--------------------------

Its patches 1 to 5, which let /proc/kcore return what vm_map_ram() mapped. A member or
a function shows that code was added; that areas and blocks are marked by it shows that
the code runs. A member without its marks is no patch.
"""

from typing import List, Optional

from .._numpy import Array, np
from ..model.areas import VMAP_BLOCK, VMAP_RAM, Snapshot, State
from ..model.blocks import Blocks
from ..model.series import PatchVerdict, SeriesSigns, Strength
from .answer import Answer

__all__ = (
    "flags_answer",
    "listing_answer",
    "reader_answer",
    "uninitialized_answer",
    "unmarked_rows",
    "used_map_answer",
)

_MARKS = np.uint64(VMAP_RAM | VMAP_BLOCK)


def used_map_answer(signs: SeriesSigns, blocks: Optional[Blocks]) -> Answer:
    """
    Patch 1: is it known which pages of a block are used?

    :param blocks: None if they could not be read.
    """
    if signs.used_map is None:
        return _unknown("struct vmap_block is not known")
    if not signs.used_map:
        why = (
            "struct vmap_block has no member used_map: which pages of a block are used "
            "and which were freed is not kept"
        )
        return _no(Strength.CERTAIN, why)
    member = "struct vmap_block has the member used_map"
    if blocks is None:
        return _yes(Strength.CERTAIN, member, "blocks, and so its bits, are unreadable")
    if not len(blocks.table):
        return _yes(Strength.CERTAIN, member, "there is no block, so no bit to look at")
    return _bits_answer(blocks, f"{member}, of {blocks.bits_per_block} bits")


def _bits_answer(blocks: Blocks, member: str) -> Answer:
    """Patch 1, where there are blocks: are their bits kept?"""
    bits, table = blocks.bits_per_block, blocks.table
    used = table.used.sum(axis=1)
    free, freed = table.free.astype(np.int64), table.dirty.astype(np.int64)
    in_use = np.flatnonzero(bits - free - freed > 0)
    whole = np.flatnonzero((used > 0) & (used + free + freed == bits))
    if len(whole):
        at = whole[0]
        return _yes(
            Strength.CERTAIN,
            member,
            f"used, free and freed pages make up {bits} in {len(whole)} of "
            f"{len(in_use)} blocks in use, such as vmap_block "
            f"{int(table.address[at]):#x}: {used[at]} + {free[at]} + {freed[at]}",
        )
    if len(in_use) and not used.any():
        at = in_use[0]
        return _no(
            Strength.STRONG,
            member,
            f"but none of {len(in_use)} blocks in use has a bit set, although "
            f"{bits - free[at] - freed[at]} pages of vmap_block "
            f"{int(table.address[at]):#x} are in use by its counters",
        )
    return _yes(Strength.CERTAIN, member, "no block shows that its bits are kept")


def unmarked_rows(snapshot: Snapshot) -> Array:
    """Return the rows of busy areas that have neither a vm nor a vm_map_ram mark."""
    areas = snapshot.areas
    marked = areas.va_flags & np.uint64(VMAP_RAM) != 0
    return np.flatnonzero((areas.state == State.BUSY) & (areas.vm == 0) & ~marked)


def flags_answer(
    snapshot: Snapshot, blocks: Optional[Blocks], signs: SeriesSigns
) -> Answer:
    """Patch 2: do areas of vm_map_ram() say what they are?"""
    areas = snapshot.areas
    without_vm = np.flatnonzero((areas.state == State.BUSY) & (areas.vm == 0))
    if not snapshot.kernel.has_va_flags:
        lack = "has no member flags"
        if snapshot.kernel.rules.lazy_by_flag:
            lack = "has flags, but none for vm_map_ram()"
        return _no(
            Strength.CERTAIN,
            f"struct vmap_area {lack}: of an area without a vm nothing says what it is "
            f"({len(without_vm)} such areas)",
        )
    found = ["struct vmap_area has the member flags"]
    if signs.va_flags_parameter:
        found.append("alloc_vmap_area() has the parameter va_flags")
    if not len(without_vm):
        strength = Strength.CERTAIN if signs.va_flags_parameter else Strength.STRONG
        found.append("there is no area without a vm, so no mark to look at")
        return _yes(strength, *found)
    unmarked = unmarked_rows(snapshot)
    # A block is known by the xarrays as well: it is no area that is just being made.
    known = unmarked[_is_block_area(snapshot, unmarked, blocks)]
    at = (*known, *unmarked, *without_vm)[0]
    example = f"{int(areas.start[at]):#x} (flags {int(areas.va_flags[at]):#x})"
    torn = snapshot.kernel.live and bool(snapshot.problems)
    if len(known) or (len(unmarked) == len(without_vm) and not torn):
        found.append(
            f"but {len(unmarked)} of {len(without_vm)} areas without a vm are not "
            f"marked, such as {example}; {len(known)} of them are vmap_blocks"
        )
        sure = len(known) or snapshot.kernel.live
        return _no(Strength.STRONG if sure else Strength.WEAK, *found)
    found += _marks(snapshot, without_vm)
    if len(unmarked):
        found.append(
            f"{len(unmarked)} more are not marked, such as {example}: they may just "
            "have been in the making"
        )
    return _yes(Strength.CERTAIN, *found)


def _is_block_area(snapshot: Snapshot, rows: Array, blocks: Optional[Blocks]) -> Array:
    areas = snapshot.areas
    if blocks is None:
        return np.zeros(len(rows), bool)
    found: Array = np.isin(areas.address[rows], blocks.table.area)
    found &= np.isin(areas.start[rows], blocks.table.start)
    return found


def _marks(snapshot: Snapshot, rows: Array) -> List[str]:
    """Tell which marks areas have."""
    areas = snapshot.areas
    marks = areas.va_flags[rows] & _MARKS
    lines = []
    for mark, what in (
        (VMAP_RAM, "a vm_map_ram area of its own"),
        (VMAP_RAM | VMAP_BLOCK, "a vmap_block"),
    ):
        marked = rows[marks == np.uint64(mark)]
        if len(marked):
            lines.append(
                f"{len(marked)} of {len(rows)} areas without a vm are marked {mark:#x}, "
                f"{what}, such as {int(areas.start[marked[0]]):#x}"
            )
    return lines


def reader_answer(signs: SeriesSigns, flags: Answer) -> Answer:
    """Patch 3: is there code that reads vm_map_ram() memory for /proc/kcore?"""
    strength = Strength.CERTAIN if signs.inlined_known else Strength.STRONG
    how = (
        []
        if signs.inlined_known
        else ["BTF does not name functions that were inlined: told by a symbol alone"]
    )
    if not (signs.ram_reader or signs.inlined_known) and flags.is_yes:
        return _unknown(
            "neither vmap_ram_vread_iter() nor vmap_ram_vread() has a symbol, but BTF "
            "does not name functions that were inlined"
        )
    if not signs.ram_reader:
        return _no(
            strength,
            "mm/vmalloc.c has neither vmap_ram_vread_iter() nor vmap_ram_vread(): nothing "
            "reads areas without a vm",
            *how,
        )
    found = [
        f"mm/vmalloc.c has {signs.ram_reader}(), which reads vm_map_ram areas",
        *how,
    ]
    if not flags.is_yes:
        found.append("but it looks for marks that no area has (patch 2)")
    return _yes(strength, *found)


def listing_answer(snapshot: Snapshot, flags: Answer) -> Answer:
    """Patch 4: does /proc/vmallocinfo show as vm_map_ram only what is?"""
    has_flags = snapshot.kernel.has_va_flags
    no_flags = "struct vmap_area has no flags that /proc/vmallocinfo could go by"
    if not snapshot.kernel.live:
        lost = "how /proc/vmallocinfo prints an area leaves no trace in a vmcore"
        return _unknown(lost, *(() if has_flags else (no_flags,)))
    if not has_flags:
        return _no(
            Strength.STRONG, f"{no_flags}: each area without a vm is a vm_map_ram there"
        )
    if not flags.is_yes:
        return _unknown("areas are not marked (patch 2), so nothing can be concluded")
    return Answer(
        PatchVerdict.YES,
        Strength.WEAK,
        (
            "concluded from patch 2, which came in one series with it: the file shows a "
            "difference only while an area is being made",
        ),
    )


def uninitialized_answer(snapshot: Snapshot, reader: Answer) -> Answer:
    """Patch 5: does /proc/kcore leave out what vmalloc() has not finished?"""
    if not snapshot.kernel.live:
        return _unknown(
            "what /proc/kcore leaves out, of areas that exist for a moment, leaves no "
            "trace in a vmcore"
        )
    return Answer(
        reader.verdict,
        Strength.WEAK,
        (
            "concluded from patch 3, which came in one series with it: areas that "
            "vmalloc() has not finished exist for a moment only",
        ),
    )


def _yes(strength: Strength, *evidence: str) -> Answer:
    return Answer(PatchVerdict.YES, strength, evidence)


def _no(strength: Strength, *evidence: str) -> Answer:
    return Answer(PatchVerdict.NO, strength, evidence)


def _unknown(*evidence: str) -> Answer:
    return Answer(PatchVerdict.UNKNOWN, Strength.WEAK, evidence)
