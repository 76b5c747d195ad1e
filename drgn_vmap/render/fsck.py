# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Consistency checks
------------------

Their outcomes as lines for people, and as JSON.
"""

from collections import Counter
from typing import Any, Dict, List, Sequence

from ..model.inspection import Check, Verdict
from .escape import printable

__all__ = ("check_json", "check_lines")

_FAILURES_TOLD = 10


def check_lines(checks: Sequence[Check]) -> str:
    """Return a line for each check, with what it found below it, and a summary."""
    lines: List[str] = []
    for check in checks:
        looked = f" ({check.checked})" if check.verdict != Verdict.SKIPPED else ""
        lines.append(f"{check.verdict.value:12}{check.id}: {check.title}{looked}")
        if check.reason:
            lines.append(f"{'':14}{printable(check.reason)}")
        for failure in check.failures[:_FAILURES_TOLD]:
            lines.append(f"{'':14}{failure.address:#x}: {printable(failure.text)}")
        more = len(check.failures) - _FAILURES_TOLD
        if more > 0:
            lines.append(f"{'':14}… and {more} more, see --json")
    counts = Counter(check.verdict for check in checks)
    summary = ", ".join(f"{counts[v]} {v.value}" for v in Verdict if counts[v])
    return "\n".join((*lines, "", f"{len(checks)} checks: {summary}")) + "\n"


def check_json(check: Check) -> Dict[str, Any]:
    """Return a check as JSON has it."""
    values: Dict[str, Any] = {
        "id": check.id,
        "title": check.title,
        "verdict": check.verdict.value,
        "checked": check.checked,
        "failures": [
            {"address": f"{failure.address:#x}", "text": failure.text}
            for failure in check.failures
        ],
    }
    if check.reason:
        values["reason"] = check.reason
    return values
