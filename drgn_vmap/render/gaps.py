# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Gaps
----

What is left of vmalloc space, for people and as JSON.
"""

from typing import Any, Dict, Optional, Sequence

from ..model.areas import Area, State
from ..model.space import Fit, Gap, Gaps, InTheWay, Request
from .escape import printable
from .records import area_json
from .sizes import counted, size_text
from .tables import plain_table
from .top import left_out_text

__all__ = ("fit_text", "gaps_json", "gaps_text")


def gaps_text(gaps: Gaps, title: str = "vmalloc space") -> str:
    """
    Return a summary, the gaps by size, and the pages that wait to be purged.

    :param title: What the range is.
    """
    space = gaps.space
    parts = [
        f"{title} {space.start:#x}-{space.end:#x}, {size_text(gaps.total)}",
        _state_table(gaps),
        f"largest gap: {_gap_text(gaps.largest)}",
        _histogram_table(gaps),
        _lazy_text(gaps),
        _cached_text(gaps.cached) if gaps.cached else "",
        left_out_text(gaps.left_out) if gaps.left_out else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def fit_text(fit: Fit) -> str:
    """Return in a few lines whether an allocation would succeed."""
    request = fit.request
    asked = f"{size_text(request.size)} ({request.needed} bytes with guard page"
    asked += f", aligned to {request.align:#x})" if request.align > 1 else ")"
    if fit.is_refused:
        answer = (
            f"is refused: there is {size_text(fit.ram or 0)} of RAM, and vmalloc() looks "
            "for no addresses then"
        )
    elif fit.where is not None:
        answer = f"fits: at {fit.where:#x}"
    elif fit.pools:
        answer = "fits on some CPUs only"
    elif fit.where_after_purge is not None:
        answer = (
            f"fits after a purge only: at {fit.where_after_purge:#x} at the latest; "
            "the kernel purges by itself before it gives up"
        )
    else:
        answer = "does not fit\n" + _in_the_way_text(fit.in_the_way, request)
    lines = [f"{asked} {answer}"]
    if fit.cached is not None:
        lines.append(f"code does, at {fit.cached:#x}, of what is kept for it; data not")
    lines += [
        f"CPUs of vmap node {node} would take {address:#x} from their pool"
        for node, address in fit.pools.items()
    ]
    return "\n".join(lines) + "\n"


def gaps_json(gaps: Gaps, fit: Optional[Fit]) -> Dict[str, Any]:
    """Return the body of the JSON document."""
    largest = gaps.largest
    body: Dict[str, Any] = {
        "start": f"{gaps.space.start:#x}",
        "end": f"{gaps.space.end:#x}",
        "total": gaps.total,
        **{state.label: gaps.bytes[state] for state in State},
        "unaccounted": gaps.unaccounted,
        "ranges": {state.label: gaps.ranges[state] for state in State},
        "outside": gaps.outside_bytes,
        "largest_gap": largest.size if largest else 0,
        "histogram": [
            {"size": one.size, "gaps": one.gaps, "bytes": one.bytes}
            for one in gaps.histogram
        ],
        "lazy_pages": gaps.lazy_pages,
    }
    if gaps.lazy:
        body["lazy_counted_pages"] = gaps.lazy.counted
        body["lazy_max_pages"] = gaps.lazy.maximum
    if gaps.left_out:
        body["left_out_lines"] = gaps.left_out
    if largest:
        body["largest_gap_start"] = f"{largest.start:#x}"
    if gaps.cached:
        body["cached"] = [
            {"start": _hex(one.start), "end": _hex(one.end)} for one in gaps.cached
        ]
    if fit:
        body["fit"] = _fit_json(fit)
    return body


def _state_table(gaps: Gaps) -> str:
    rows = [
        [
            state.label,
            str(gaps.ranges[state]),
            str(gaps.bytes[state]),
            size_text(gaps.bytes[state]),
            f"{gaps.bytes[state] / gaps.total:.2%}",
        ]
        for state in State
    ]
    if gaps.unaccounted:
        rest = gaps.unaccounted
        share = f"{rest / gaps.total:.2%}"
        rows.append(["in transit", "-", str(rest), size_text(rest), share])
    headers = ("STATE", "RANGES", "BYTES", "SIZE", "SHARE")
    if gaps.lazy is None:
        # A text has no lines of them.
        rows = [row for row in rows if row[0] not in ("purging", "pool")]
    table = plain_table(rows, headers, ["left"] + ["right"] * 4)
    if gaps.outside_bytes:
        outside = size_text(gaps.outside_bytes)
        table += f"\nbusy outside of it: {outside}"
    return table


def _histogram_table(gaps: Gaps) -> str:
    rows = [
        [size_text(one.size), str(one.gaps), size_text(one.bytes)]
        for one in gaps.histogram
    ]
    if not rows:
        return ""
    return plain_table(rows, ("GAPS FROM", "COUNT", "TOGETHER"), ["right"] * 3)


def _gap_text(gap: Optional[Gap]) -> str:
    if gap is None:
        return "there is none"
    return f"{size_text(gap.size)} at {gap.start:#x}-{gap.end:#x}"


def _lazy_text(gaps: Gaps) -> str:
    lazy = gaps.lazy
    said = f"waiting to be purged: {gaps.lazy_pages} pages"
    if lazy is None:
        return said
    if lazy.counted == gaps.lazy_pages:
        said += ", as the kernel counts"
    else:
        said += f", the kernel counts {lazy.counted}"
    return f"{said}; it starts a purge above {lazy.maximum}"


def _cached_text(cached: Sequence[Gap]) -> str:
    whole, most = (how(one.size for one in cached) for how in (sum, max))
    return (
        f"of what is busy, {size_text(whole)} are kept for the next code, in "
        f"{counted(len(cached), 'range')}, the largest of {size_text(most)}"
    )


def _in_the_way_text(found: Optional[InTheWay], request: Request) -> str:
    if found is None:
        return "it is larger than all of this space, even if that were empty"
    place = found.place
    if not found.bytes:
        return (
            f"{place.start:#x}-{place.end:#x} would be room enough, but the search of kernels "
            f"since 5.2 passes over it: it looks for {request.searched} bytes, to have some "
            "to align in"
        )
    lines = [
        f"the best place is {place.start:#x}-{place.end:#x}, "
        f"where {size_text(found.bytes)} are in use:"
    ]
    lines += [f"  {_area_text(area)}" for area in found.areas]
    return "\n".join(lines)


def _area_text(area: Area) -> str:
    name = printable(area.caller or " ".join(area.kinds) or "(no caller)")
    return f"{area.start:#x}-{area.end:#x} {size_text(area.size)} {name}"


def _fit_json(fit: Fit) -> Dict[str, Any]:
    found = fit.in_the_way
    body: Dict[str, Any] = {
        "size": fit.request.size,
        "needed": fit.request.needed,
        "align": fit.request.align,
        "fits": fit.fits,
        "where": _hex(fit.where),
        "pools": {str(node): _hex(at) for node, at in fit.pools.items()},
        "after_purge": fit.fits_after_purge,
        "where_after_purge": _hex(fit.where_after_purge),
    }
    if fit.cached is not None:
        body["cached"] = _hex(fit.cached)
    if fit.is_refused:
        body["refused"] = f"more than {fit.ram} bytes of RAM"
    if found:
        body["in_the_way"] = {
            "start": _hex(found.place.start),
            "end": _hex(found.place.end),
            "bytes": found.bytes,
            "areas": [area_json(area) for area in found.areas],
        }
    return body


def _hex(address: Optional[int]) -> Optional[str]:
    return None if address is None else f"{address:#x}"
