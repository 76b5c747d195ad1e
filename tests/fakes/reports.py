# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reports made by hand, one of them of a kernel whose every name is hostile."""

from typing import Any, Dict

from drgn_vmap.analyses.describe import describe
from drgn_vmap.analyses.report import largest_rows, map_blocks, stretches
from drgn_vmap.analyses.top import sum_areas
from drgn_vmap.model.areas import Problem, ProblemKind, Snapshot
from drgn_vmap.model.inspection import Check, Failure, Verdict
from drgn_vmap.model.pictures import Report
from drgn_vmap.model.series import (
    Finding,
    Patch,
    PatchVerdict,
    SeriesVerdict,
    Strength,
    Verification,
)

from .blocks import FakeBlock, blocks_of
from .snapshots import BASE, area, snapshot_of

__all__ = ("HOSTILE", "hostile_report", "report_of")

VM_ALLOC = 0x2
HOSTILE = "<script>alert(1)</script>&\"'\x1b[2J\x00+0x1/0x2 [" + "k" * 10_000 + "]"


def report_of(snapshot: Snapshot, **more: Any) -> Report:
    """Return a report of a snapshot alone."""
    parts: Dict[str, Any] = {
        "source": "vmcore",
        "kernel": snapshot.kernel,
        "warnings": (),
        "gaps": None,
        "pages": None,
        "tops": tuple(sum_areas(snapshot, by) for by in ("caller", "module", "kind")),
        "stretches": stretches(snapshot),
        "largest": tuple(describe(snapshot, largest_rows(snapshot, 100))),
        "blocks": None,
        "checks": None,
        "series": None,
        "problems": (),
    }
    return Report(**{**parts, **more})


def hostile_report() -> Report:
    """A report in which everything that a target names is hostile."""
    rows = [area(0, 5, flags=VM_ALLOC, caller=1, nr_pages=4)]
    snapshot = snapshot_of(rows, {1: HOSTILE}, release=HOSTILE)
    return report_of(
        snapshot,
        source=HOSTILE,
        warnings=(HOSTILE,),
        blocks=map_blocks(
            blocks_of([FakeBlock(free=100, used="##..#", mapped="##.!")])
        ),
        checks=(
            Check("id", HOSTILE, Verdict.FAILED, 3, (Failure(BASE, HOSTILE),), HOSTILE),
        ),
        series=Verification(
            (
                Patch(
                    *(6, HOSTILE, HOSTILE),
                    *(PatchVerdict.NO, Strength.STRONG, (HOSTILE,)),
                ),
            ),
            SeriesVerdict.PARTIAL,
            (Finding(HOSTILE, HOSTILE),),
        ),
        problems=(Problem(ProblemKind.CORRUPT, HOSTILE, HOSTILE),),
    )
