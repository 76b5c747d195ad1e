# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Over time
---------

What callers hold at several moments, for people and as JSON.
"""

from typing import Any, Dict, List, Optional, Sequence

from ..model.saved import OverTime
from .escape import printable
from .sizes import counted, size_text
from .tables import plain_table
from .top import left_out_text

__all__ = ("over_time_json", "over_time_text")

_SHOWN = 6
"""Moments that a table shows, the first and the last among them."""


def over_time_text(found: OverTime, limit: int, width: Optional[int] = None) -> str:
    """
    Return a table of what grew, and which moments it is about.

    :param limit: Of callers.
    :param width: Of the terminal.
    """
    shown = _chosen(len(found.titles))
    headers = ["GROWTH", *(f"#{at + 1}" for at in shown), "CALLER"]
    rows = [
        [
            f"{row.growth:+}",
            *(size_text(row.bytes[at]) for at in shown),
            printable(row.caller),
        ]
        for row in found.rows[:limit]
    ]
    align = ["right"] * (len(shown) + 1) + ["left"]
    changed = plain_table(rows, headers, align, width)
    lines = [changed if rows else "every caller holds the same at all moments"]
    hidden = len(found.rows) - len(rows)
    lines += [f"… and {hidden} more: -n 0 shows all"] if hidden > 0 else []
    lines.append("")
    lines += [_moment_text(found, at) for at in shown]
    if sum(found.left_out):
        lines.append(left_out_text(sum(found.left_out)))
    return "\n".join(lines) + "\n"


def over_time_json(found: OverTime) -> Dict[str, Any]:
    """Return the body of the JSON document."""
    return {
        "snapshots": [
            {
                "number": at + 1,
                "title": title,
                "areas": found.areas[at],
                "bytes": found.bytes[at],
                "left_out_lines": found.left_out[at],
            }
            for at, title in enumerate(found.titles)
        ],
        "callers": [
            {
                "caller": row.caller,
                "growth": row.growth,
                "areas": list(row.areas),
                "bytes": list(row.bytes),
            }
            for row in found.rows
        ],
    }


def _chosen(count: int) -> Sequence[int]:
    """Return evenly spread moments."""
    if count <= _SHOWN:
        return range(count)
    steps: List[int] = [at * (count - 1) // (_SHOWN - 1) for at in range(_SHOWN)]
    return steps


def _moment_text(found: OverTime, at: int) -> str:
    title = f" {printable(found.titles[at])}:" if found.titles[at] else ":"
    size = size_text(found.bytes[at])
    return f"#{at + 1}{title} {counted(found.areas[at], 'area')}, {size} of addresses"
