# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Verification
------------

Whether a kernel has the series "mm/vmalloc.c: allow vread() to read out vm_map_ram
areas" (v6.3), which of its patches, and what that rests on.
"""

from typing import Optional, Sequence, Tuple, Union

from ..model.areas import Snapshot
from ..model.blocks import Blocks
from ..model.kcore import CheckedArea
from ..model.saved import SavedText
from ..model.series import (
    Patch,
    PatchVerdict,
    SeriesSigns,
    SeriesVerdict,
    Strength,
    Verification,
)
from .answer import Answer
from .verify_arch import (
    POWERPC,
    SH,
    powerpc_answer,
    powerpc_rows,
    sh_answer,
    sh_rows,
)
from .verify_ram import (
    flags_answer,
    listing_answer,
    reader_answer,
    uninitialized_answer,
    used_map_answer,
)
from .verify_read import judge_blocks, judge_reading, unmeasured_blocks

__all__ = ("verify", "verify_text")

_PATCHES: Sequence[Tuple[str, str]] = (
    (
        "d76f99548cf0",
        "mm/vmalloc.c: add used_map into vmap_block to track space of vmap_block",
    ),
    ("869176a09606", "mm/vmalloc.c: add flags to mark vm_map_ram area"),
    ("06c8994626d1", "mm/vmalloc.c: allow vread() to read out vm_map_ram areas"),
    (
        "bba9697b42ea",
        "mm/vmalloc: explicitly identify vm_map_ram area when shown in "
        "/proc/vmcoreinfo",
    ),
    ("30a7a9b17c4b", "mm/vmalloc: skip the uninitilized vmalloc areas"),
    ("728e5ae07dd6", "powerpc: mm: add VM_IOREMAP flag to the vmalloc area"),
    ("61a1a9906f66", "sh: mm: set VM_IOREMAP flag to the vmalloc area"),
)
"""Commits and their subjects, as they are in mainline."""


def verify(
    snapshot: Snapshot,
    blocks: Optional[Blocks],
    signs: SeriesSigns,
    reading: Union[Sequence[CheckedArea], str],
) -> Verification:
    """
    Judge a kernel.

    :param blocks: None if they could not be read.
    :param reading: What reading areas of vm_map_ram() through /proc/kcore showed, or
        why that could not be done.
    """
    used_map = used_map_answer(signs, blocks)
    flags = flags_answer(snapshot, blocks, signs)
    reader = reader_answer(signs, flags)
    finding, unread = None, ""
    if isinstance(reading, str):
        unread = reading
        reader = reader.with_evidence(f"not tried by reading: {unread}")
    else:
        reader = judge_reading(reader, flags, reading)
        if reader.is_yes:
            finding, unread, line = judge_blocks(reading, snapshot.kernel.page_size)
            reader = reader.with_evidence(line)
    # A reader that finds no marks never gets as far as a block.
    works = reader.is_yes and PatchVerdict.NO not in (used_map.verdict, flags.verdict)
    if unread and works and signs.mixes_up_blocks:
        finding = unmeasured_blocks(signs, unread)
    answers = (
        used_map,
        flags,
        reader,
        listing_answer(snapshot, flags),
        uninitialized_answer(snapshot, reader),
        powerpc_answer(snapshot, signs.architecture),
        sh_answer(snapshot, signs.architecture),
    )
    findings = (finding,) if finding else ()
    return Verification(_patches(answers), _verdict(answers), findings)


def verify_text(saved: SavedText) -> Verification:
    """Judge by a copy of /proc/vmallocinfo, which shows little of it."""
    snapshot, known = saved.snapshot, saved.pointers == "raw"
    hidden = "/proc/vmallocinfo does not show it"
    unknown = Answer(PatchVerdict.UNKNOWN, Strength.WEAK, (hidden,))
    if len(powerpc_rows(snapshot)):
        architecture = POWERPC
    elif len(sh_rows(snapshot, known)):
        architecture = SH
    else:
        architecture = ""
    powerpc = powerpc_answer(snapshot, architecture, known)
    sh = sh_answer(snapshot, architecture, known)
    # Only the areas of the one tell that the other one is not there.
    if architecture == POWERPC:
        sh = sh.as_sure_as(powerpc)
    elif architecture == SH:
        powerpc = powerpc.as_sure_as(sh)
    answers = (*[unknown] * 5, powerpc, sh)
    return Verification(_patches(answers), SeriesVerdict.UNKNOWN)


def _patches(answers: Sequence[Answer]) -> Tuple[Patch, ...]:
    return tuple(
        Patch(number, title, commit, answer.verdict, answer.strength, answer.evidence)
        for number, ((commit, title), answer) in enumerate(zip(_PATCHES, answers), 1)
    )


def _verdict(answers: Sequence[Answer]) -> SeriesVerdict:
    """Sum up the three patches that make /proc/kcore return the memory."""
    there = [answer.is_yes for answer in answers[:3]]
    if all(there):
        return SeriesVerdict.FIXED
    return SeriesVerdict.PARTIAL if any(there) else SeriesVerdict.NOT_FIXED
