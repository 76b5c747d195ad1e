# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Measuring what /proc/kcore returns
----------------------------------

What several verbs do: choose pages, look at them in both views, sum up.
"""

import time
from typing import TYPE_CHECKING, Callable

from ..analyses.certainty import Measurer
from ..analyses.check import Scope, Tally, find_targets, primers, sum_up
from ..errors import TargetError
from ..kernel.memory.views import ThroughDrgn, TwoViews
from ..kernel.vmalloc.snapshot import take_areas_around, take_snapshot
from ..kernel.vmalloc.vread import kcore_rules
from ..model.kcore import KcoreCheck, Reader

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("measure",)

_BATCH_BYTES = 8 << 20


def measure(
    target: "Target",
    scope: Scope,
    on_read: Callable[[int, int], None],
    through: Reader = Reader.KCORE,
) -> KcoreCheck:
    """
    Compare what /proc/kcore returns, or drgn itself, with what memory holds.

    :param on_read: Called with how many pages were read, of how many.
    :raises TargetError: if that is not the kernel of this machine, or is closed to us.
    """
    if not target.is_this_machine:
        raise TargetError(
            "only a running kernel has a /proc/kcore: " "run it on that machine"
        )
    snapshot, rules = take_snapshot(target), kcore_rules(target)
    targets = find_targets(snapshot, scope, rules)
    tally = Tally(targets)
    page_size = snapshot.kernel.page_size
    drgn = ThroughDrgn(target.prog, page_size) if through == Reader.DRGN else None
    with TwoViews(target.page_table, page_size, primers(snapshot), drgn) as views:
        measurer = Measurer(
            targets, rules, views, lambda at: take_areas_around(target, at), time.sleep
        )
        for pages in targets.batches(max(_BATCH_BYTES // page_size, 1)):
            tally.add(pages, *measurer.measure(pages))
            on_read(tally.pages, targets.total)
        problems = (*snapshot.problems, *views.problems)
    return sum_up(targets, tally, rules, problems, through)
