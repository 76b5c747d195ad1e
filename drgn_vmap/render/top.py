# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Top
---

Sums of areas as a table for people, and as JSON.
"""

from dataclasses import asdict
from typing import Any, Dict, Optional

from ..model.sums import Growth, OwnerSums, Reconciliation, Sum, Top
from .escape import printable
from .sizes import counted, size_text
from .tables import plain_table

__all__ = (
    "growth_text",
    "left_out_text",
    "meminfo_text",
    "owner_sums_text",
    "top_json",
    "top_table",
    "verdict_text",
)


_SPARE = ("PAGES", "SHARE", "AREAS")


def top_table(top: Top, width: Optional[int] = None) -> str:
    """
    Return the largest sums as a table, and what all areas hold.

    :param width: Of the terminal.
    """
    rows = [
        [
            str(row.areas),
            str(row.bytes),
            str(row.pages),
            f"{top.share(row):.1%}",
            printable(row.key),
        ]
        for row in top.rows
    ]
    headers = ("AREAS", "BYTES", "PAGES", "SHARE", top.by.upper())
    align = ["right"] * 4 + ["left"]
    table = plain_table(rows, headers, align, width, _SPARE)
    lines = [table if rows else "no busy area"]
    if top.more:
        rest = size_text(top.more_bytes)
        lines.append(f"… and {top.more} more with {rest}: -n 0 shows all")
    total = top.total
    lines.append(
        f"\n{counted(total.areas, 'area')}, {size_text(total.bytes)} of addresses, "
        f"{counted(total.pages, 'page')}"
    )
    if top.left_out:
        lines.append(left_out_text(top.left_out))
    return "\n".join(lines) + "\n"


def growth_text(
    found: Growth, limit: Optional[int] = None, width: Optional[int] = None
) -> str:
    """
    Return what grew or shrank as a table, and by how much all together.

    :param limit: How many rows at most.
    :param width: Of the terminal.
    """
    rows = [
        [f"{row.areas:+}", f"{row.bytes:+}", f"{row.pages:+}", printable(row.key)]
        for row in found.rows[:limit]
    ]
    headers = ("AREAS", "BYTES", "PAGES", found.by.upper())
    align = ["right"] * 3 + ["left"]
    lines = [plain_table(rows, headers, align, width) if rows else "nothing changed"]
    if len(found.rows) > len(rows):
        lines.append(f"… and {len(found.rows) - len(rows)} more: -n 0 shows all")
    total = found.total
    lines.append(
        f"\n{total.areas:+} areas, {total.bytes:+} bytes of addresses, "
        f"{total.pages:+} pages"
    )
    return "\n".join(lines) + "\n"


def left_out_text(lines: int) -> str:
    """Return what stands beside totals if lines of a text are not in them."""
    noun, verb = ("lines", "were") if lines > 1 else ("line", "was")
    return f"left out: {lines} {noun} that {verb} not understood, so there is more than this"


def meminfo_text(found: Reconciliation) -> str:
    """Return in a line whether /proc/meminfo counts the same, and what it counts."""
    counter = found.counter
    assert counter is not None
    said = f"VmallocUsed of {counter.name} is {counter.pages} pages"
    if not counter.pages:
        return f"{said}: kernels between 4.4 and 5.3 do not count\n"
    said += f", areas of vmalloc() hold {found.summed_pages}"
    if found.verdict == "equal":
        return f"{said}: equal\n"
    said += f", all areas take {found.address_pages} of addresses"
    if found.verdict == "equal addresses":
        return f"{said}: equal to these, which it counted before 4.4\n"
    return (
        f"{said}: differs by {found.difference_pages} from the former, which it counts "
        "since 5.3\n"
    )


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


def owner_sums_text(sums: OwnerSums) -> str:
    """Return what some owners have in all, a line each."""
    lines = []
    if sums.percpu:
        lines.append(
            f"Percpu counts {counted(sums.percpu.counted_pages, 'page')}, the kernel image "
            f"and all chunks have {sums.percpu.found_pages}: {sums.percpu.verdict}\n"
        )
    if sums.jit:
        lines.append(
            f"compiled BPF programs take {size_text(sums.jit.bytes)} of at most "
            f"{size_text(sums.jit.limit)}\n"
        )
    return "".join(lines)


def top_json(
    top: Top, reconciliation: Reconciliation, sums: Optional[OwnerSums] = None
) -> Dict[str, Any]:
    """
    Return the body of the JSON document.

    :param sums: What some owners have in all, if that was looked for.
    """
    left_out = {"left_out_lines": top.left_out} if top.left_out else {}
    return {
        **left_out,
        "by": top.by,
        "rows": [
            {**_sum_json(row), "share": round(top.share(row), 4)} for row in top.rows
        ],
        "total": _totals(top.total),
        "reconciliation": _reconciliation_json(reconciliation),
        **(_owner_sums_json(sums) if sums else {}),
    }


def _owner_sums_json(sums: OwnerSums) -> Dict[str, Any]:
    percpu, jit = sums.percpu, sums.jit
    return {
        "percpu": percpu and {"verdict": percpu.verdict, **asdict(percpu)},
        "bpf_jit": jit and asdict(jit),
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
