# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What ``vmap`` and ``%vmap`` alone show: a kernel's vmalloc state on one screen.
"""

from typing import TYPE_CHECKING, Optional

from ..analyses.blocks import block_totals
from ..analyses.gaps import find_gaps
from ..analyses.overview import warnings
from ..analyses.top import reconcile, sum_areas
from ..analyses.verify import verify
from ..errors import VmapError
from ..kernel.vmalloc.blocks import take_blocks
from ..kernel.vmalloc.counters import vmalloc_pages
from ..kernel.vmalloc.lazy import lazy_pages
from ..kernel.vmalloc.ranges import module_space, vmalloc_range
from ..kernel.vmalloc.series import series_signs
from ..kernel.vmalloc.snapshot import take_snapshot
from ..model.areas import Snapshot
from ..model.blocks import Blocks
from ..model.pictures import Overview
from ..model.space import Gaps
from ..render.overview import overview_text
from . import VERBS
from .common import problem_status, terminal_width, write_text

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("look_over", "run")


def run(target: "Target", typed: str) -> int:
    """
    Print the overview.

    :param typed: What is typed before a verb.
    """
    found = look_over(target, take_blocks(target))
    write_text(
        overview_text(
            found, list(warnings(found)), list(VERBS), typed, terminal_width()
        )
    )
    return problem_status(found.snapshot.problems)


def look_over(target: "Target", blocks: Blocks) -> Overview:
    """Read a kernel and sum it up."""
    snapshot = take_snapshot(target, all_states=True)
    return Overview(
        snapshot=snapshot,
        gaps=find_gaps(snapshot, vmalloc_range(target), lazy_pages(target)),
        top=sum_areas(snapshot, "caller"),
        pages=reconcile(snapshot, vmalloc_pages(target)),
        blocks=block_totals(blocks),
        series=verify(
            snapshot, blocks, series_signs(target), "it takes a while"
        ).verdict,
        modules=_module_gaps(target, snapshot),
    )


def _module_gaps(target: "Target", snapshot: Snapshot) -> Optional[Gaps]:
    try:
        space = module_space(target).whole
    except VmapError:
        return None
    if space == vmalloc_range(target):
        return None
    return find_gaps(snapshot, space, lazy_pages(target))
