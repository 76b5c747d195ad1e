# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Difference
----------

What changed between two moments, for people and as JSON.
"""

from typing import Any, Dict, List, Optional, Sequence

from ..model.areas import Area
from ..model.saved import CallerChange, Compared, Difference
from .escape import printable
from .records import area_json, json_document
from .sizes import counted, size_text
from .tables import plain_table
from .top import left_out_text

__all__ = ("diff_json", "diff_text")


def diff_text(found: Difference, limit: int, width: Optional[int] = None) -> str:
    """
    Return the change by caller and the largest areas behind it.

    :param limit: Of callers, and of areas of each list.
    :param width: Of the terminal.
    """
    left_out = left_out_text(found.left_out) if found.left_out else ""
    if not found:
        said = f"no difference: the same {counted(found.common, 'area')} in use\n"
        return f"{said}{left_out}\n" if left_out else said
    grown = [after for _, after in found.grown]
    parts = [
        _change_table("CALLER", found.by_caller, limit, width),
        _change_table("OWNER", found.by_owner, limit, width) if found.by_owner else "",
        _area_list("added", found.added, found.added.bytes, limit),
        _area_list("removed", found.removed, found.removed.bytes, limit),
        _area_list("grown or shrunk", grown, sum(a.size for a in grown), limit),
    ]
    if not found.common:
        parts.append("no area is in both: are these two boots, or two machines?")
    parts.append(left_out)
    return "\n\n".join(part for part in parts if part) + "\n"


def diff_json(found: Difference, old: Compared, new: Compared) -> str:
    """Return the JSON document; its kernel is the newer one."""
    return json_document(
        "diff",
        new.kernel,
        [*old.problems, *new.problems],
        old_kernel=old.kernel,
        common=found.common,
        notes=list(found.notes),
        left_out_lines=found.left_out,
        added=[area_json(area) for area in found.added],
        removed=[area_json(area) for area in found.removed],
        grown=[_grown_json(before, after) for before, after in found.grown],
        by_caller=_changes_json("caller", found.by_caller),
        **(
            {"by_owner": _changes_json("owner", found.by_owner)}
            if found.by_owner
            else {}
        ),
    )


def _changes_json(by: str, changes: Sequence[CallerChange]) -> List[Dict[str, Any]]:
    return [
        {by: one.caller, "areas": one.areas, "bytes": one.bytes, "pages": one.pages}
        for one in changes
    ]


def _grown_json(before: Area, after: Area) -> Dict[str, Any]:
    body = {**area_json(after), "old_size": before.size}
    if before.pages is not None:
        body["old_pages"] = before.pages
    return body


def _change_table(
    by: str, changes: Sequence[CallerChange], limit: int, width: Optional[int]
) -> str:
    rows = [
        [
            f"{one.areas:+}",
            f"{one.bytes:+}",
            f"{one.pages:+}",
            printable(one.caller),
        ]
        for one in changes[:limit]
    ]
    if not rows:
        return "every caller holds as much as before"
    headers = ("AREAS", "BYTES", "PAGES", by)
    align = ["right"] * 3 + ["left"]
    table = plain_table(rows, headers, align, width)
    return "\n".join([table, *_rest(len(changes) - len(rows))])


def _area_list(title: str, areas: Sequence[Area], bytes_: int, limit: int) -> str:
    if not areas:
        return ""
    size = size_text(bytes_)
    lines = [f"{title}: {counted(len(areas), 'area')}, {size}"]
    lines += [f"  {_area_text(area)}" for area in areas[:limit]]
    return "\n".join([*lines, *_rest(len(areas) - limit)])


def _rest(hidden: int) -> List[str]:
    return [f"… and {hidden} more: -n 0 shows all"] if hidden > 0 else []


def _area_text(area: Area) -> str:
    name = printable(area.caller or " ".join(area.kinds) or "(no caller)")
    return f"{area.start:#x}-{area.end:#x} {size_text(area.size)} {name}"
