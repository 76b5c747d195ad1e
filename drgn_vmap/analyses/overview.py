# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Overview
--------

What a person who opens a kernel is told first, and what should alarm them.
"""

from collections import Counter
from typing import Iterator

from ..model.areas import ProblemKind, State
from ..model.pictures import Overview
from ..model.series import SeriesVerdict
from ..model.space import Gaps

__all__ = ("warnings",)

_SCARCE = 0.1
"""Part of vmalloc space below which what is free is little."""
_STRANDED = 0.5
"""Part of the blocks' pages above which what is stranded is much."""


def warnings(found: Overview) -> Iterator[str]:
    """Yield what is odd, each with the verb that tells more."""
    gaps, blocks, kernel = found.gaps, found.blocks, found.snapshot.kernel
    kinds = Counter(problem.what for problem in found.snapshot.problems)
    if kinds.pop(ProblemKind.RACING, 0):
        yield "areas changed while they were read, so some may be missing: ls"
    if kinds.pop(ProblemKind.UNSUPPORTED, 0):
        yield "drgn cannot read all of this kernel, so callers may have no names: ls"
    if kinds:
        count = sum(kinds.values())
        yield f"{count} problems while reading, so areas may be missing: ls"
    if found.pages.difference_pages and not kernel.live:
        lost = abs(found.pages.difference_pages)
        yield f"areas and the kernel's counter differ by {lost} pages: top"
    free = _free(gaps)
    if free < _SCARCE * gaps.total:
        yield f"only {free / gaps.total:.1%} of vmalloc space is free: gaps"
    elif gaps.largest is None or gaps.largest.size < _SCARCE * free:
        yield "free space is in pieces, none has a tenth of it: gaps"
    if found.modules and _free(found.modules) < _SCARCE * found.modules.total:
        share = _free(found.modules) / found.modules.total
        yield f"only {share:.1%} of module space is free: gaps --space module"
    if gaps.lazy and gaps.lazy_pages > gaps.lazy.maximum:
        yield f"{gaps.lazy_pages} freed pages wait to be purged: gaps"
    if blocks.stranded_pages > _STRANDED * blocks.pages:
        yield f"{blocks.stranded_pages} of {blocks.pages} pages in blocks are stranded: blocks"
    if kernel.live and found.series != SeriesVerdict.FIXED and _uses_ram(found):
        yield "/proc/kcore does not return what vm_map_ram() mapped: verify"


def _free(gaps: Gaps) -> int:
    return gaps.bytes[State.FREE] + gaps.bytes[State.POOL]


def _uses_ram(found: Overview) -> bool:
    areas = found.snapshot.areas
    return bool(((areas.state == State.BUSY) & (areas.vm == 0)).any())
