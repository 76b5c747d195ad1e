# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What grew over time
-------------------

Sums by caller at several moments, of a text that holds a copy of /proc/vmallocinfo for
each.
"""

from collections import defaultdict
from typing import DefaultDict, List, Sequence

from ..model.saved import CallerOverTime, OverTime, SavedText
from .top import sum_areas

__all__ = ("over_time",)


def over_time(texts: Sequence[SavedText]) -> OverTime:
    """Return what each caller holds at each moment, the largest growth first."""
    # Made once a caller: there may be as many moments as there are minutes in a month.
    sums: DefaultDict[str, List[int]] = defaultdict(lambda: [0] * len(texts))
    areas: DefaultDict[str, List[int]] = defaultdict(lambda: [0] * len(texts))
    for at, text in enumerate(texts):
        for row in sum_areas(text.snapshot, "caller").rows:
            sums[row.key][at] = row.bytes
            areas[row.key][at] = row.areas
    rows = [
        CallerOverTime(key, tuple(areas[key]), tuple(sums[key]))
        for key in sums
        if len({*sums[key]}) > 1 or len({*areas[key]}) > 1
    ]
    rows.sort(key=lambda row: (-row.growth, row.caller))
    totals = [sum_areas(text.snapshot, "kind").total for text in texts]
    return OverTime(
        titles=tuple(text.title for text in texts),
        areas=tuple(total.areas for total in totals),
        bytes=tuple(total.bytes for total in totals),
        left_out=tuple(text.left_out for text in texts),
        rows=tuple(rows),
    )
