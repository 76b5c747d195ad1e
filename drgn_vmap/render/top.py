# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Top
---

Sums of areas as a table for people, and as JSON.
"""

from typing import Any, Dict, Optional

from ..model.sums import Reconciliation, Sum, Top
from .escape import printable
from .sizes import size_text
from .tables import plain_table

__all__ = ("top_json", "top_table", "verdict_text")


_SPARE = ("PAGES", "SHARE", "AREAS")


def top_table(top: Top, limit: Optional[int], width: Optional[int] = None) -> str:
    """
    Return the largest sums as a table, and what all areas hold.

    :param width: Of the terminal.
    """
    shown = top.rows[:limit]
    rows = [
        [
            str(row.areas),
            str(row.bytes),
            str(row.pages),
            f"{top.share(row):.1%}",
            printable(row.key),
        ]
        for row in shown
    ]
    headers = ("AREAS", "BYTES", "PAGES", "SHARE", top.by.upper())
    align = ["right"] * 4 + ["left"]
    table = plain_table(rows, headers, align, width, _SPARE)
    lines = [table if rows else "no busy area"]
    hidden = len(top.rows) - len(shown)
    if hidden:
        rest = sum(row.bytes for row in top.rows[len(shown) :])
        lines.append(f"… and {hidden} more with {size_text(rest)}: -n 0 shows all")
    total = top.total
    lines.append(
        f"\n{total.areas} areas, {size_text(total.bytes)} of addresses, "
        f"{total.pages} pages"
    )
    return "\n".join(lines) + "\n"


def verdict_text(found: Reconciliation, live: bool) -> str:
    """Return in a line whether the kernel counts the same pages."""
    counter = found.counter
    if counter is None:
        return "no counter of this kernel is known to compare the pages with\n"
    pending = f" and {counter.pending_pages} pending" if counter.pending_pages else ""
    said = (
        f"{counter.name} counts {counter.pages} pages{pending}, "
        f"its areas hold {found.summed_pages}"
    )
    if not found.difference_pages:
        return f"{said}: equal\n"
    why = "it changed meanwhile" if live else "areas were being made or freed"
    if found.may_be_too_low and not live:
        why += ", or an older kernel took off pages that vmap() was given to keep"
    return f"{said}: differs by {found.difference_pages} ({why})\n"


def top_json(
    top: Top, limit: Optional[int], reconciliation: Reconciliation
) -> Dict[str, Any]:
    """Return the body of the JSON document."""
    return {
        "by": top.by,
        "rows": [
            {**_sum_json(row), "share": round(top.share(row), 4)}
            for row in top.rows[:limit]
        ],
        "total": _totals(top.total),
        "reconciliation": _reconciliation_json(reconciliation),
    }


def _sum_json(row: Sum) -> Dict[str, Any]:
    return {"key": row.key, **_totals(row)}


def _totals(row: Sum) -> Dict[str, int]:
    return {"areas": row.areas, "bytes": row.bytes, "pages": row.pages}


def _reconciliation_json(found: Reconciliation) -> Dict[str, Any]:
    values: Dict[str, Any] = {
        "verdict": found.verdict,
        "summed_pages": found.summed_pages,
    }
    if found.counter is not None:
        values["counter"] = found.counter.name
        values["counter_pages"] = found.counter.pages
        values["pending_pages"] = found.counter.pending_pages
        values["difference_pages"] = found.difference_pages
    return values
