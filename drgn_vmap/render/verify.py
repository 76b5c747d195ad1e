# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The vm_map_ram series
---------------------

Whether it is in a kernel, patch by patch, as lines for people and as JSON.
"""

from typing import Any, Dict, List

from ..model.series import Patch, PatchVerdict, SeriesVerdict, Verification
from .escape import printable

__all__ = ("verification_json", "verification_lines", "verdict_text")

_MEANING = {
    SeriesVerdict.FIXED: "/proc/kcore of this kernel reads what vm_map_ram() mapped",
    SeriesVerdict.NOT_FIXED: "/proc/kcore of this kernel returns nothing of what "
    "vm_map_ram() mapped: zeros, or what it read before",
    SeriesVerdict.PARTIAL: "only some of patches 1 to 3 are there, which need one "
    "another",
    SeriesVerdict.UNKNOWN: "a copy of /proc/vmallocinfo shows patches 6 and 7 alone: "
    "verify the kernel or its vmcore",
}


def verification_lines(found: Verification) -> str:
    """Return each patch with its evidence, the findings, and the verdict."""
    lines: List[str] = []
    for patch in found.patches:
        lines.append(f"{patch.number}  {patch.verdict.value:16}{patch.title}")
        lines += [f"{'':19}{text}" for text in _evidence(patch)]
    for finding in found.findings:
        sure = "" if finding.verdict == PatchVerdict.YES else finding.verdict.value
        lines.append(f"\nfinding {finding.id} {sure}".rstrip())
        lines += [f"{'':19}{one}." for one in _sentences(printable(finding.text))]
    lines.append(f"\nverdict {verdict_text(found)}")
    return "".join(f"{line}\n" for line in lines)


def verdict_text(found: Verification) -> str:
    """Return the verdict and what it means."""
    more = ", but see the finding" if found.findings else ""
    return f"{found.verdict.value}: {_MEANING[found.verdict]}{more}"


def verification_json(found: Verification) -> Dict[str, Any]:
    """Return patches, verdict and findings as JSON has them."""
    return {
        "patches": [
            {
                "number": patch.number,
                "title": patch.title,
                "commit": patch.commit,
                "verdict": patch.verdict.value,
                "strength": patch.strength.value,
                "evidence": [printable(text) for text in patch.evidence],
            }
            for patch in found.patches
        ],
        "verdict": found.verdict.value,
        "findings": [
            {
                "id": finding.id,
                "verdict": finding.verdict.value,
                "text": printable(finding.text),
            }
            for finding in found.findings
        ],
    }


def _evidence(patch: Patch) -> List[str]:
    first, *rest = map(printable, patch.evidence)
    return [f"{patch.strength.value}: {first}", *rest]


def _sentences(text: str) -> List[str]:
    return text.rstrip(".").split(". ")
