# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
kcore against memory
--------------------

What ``check`` found, for people and as JSON.
"""

from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ..model.kcore import CheckedArea, KcoreCheck, PageClass, PageFinding
from .tables import plain_table

__all__ = ("check_json", "check_text")

_AREAS_TOLD = 10
_RUNS_TOLD = 6

_VERDICTS = {
    "equal": "{} returns what memory holds",
    "zero": "{} returns zeros or stale bytes where memory holds data",
    "wrong": "{} returns other bytes than memory holds",
    "none-found": "there is no such area, or none that can be read",
}
_CURE = "%vmap direct has drgn read it right: vmap direct --help\n"


def check_text(found: KcoreCheck) -> str:
    """Return sums by kind, the verdict, and where kcore is wrong."""
    parts = [_table(found), _verdict(found)]
    bad = [a for a in found.areas if any(c.is_bad for c in a.pages)]
    parts += [_area_text(area) for area in bad[:_AREAS_TOLD]]
    if len(bad) > _AREAS_TOLD:
        parts.append(f"… and {len(bad) - _AREAS_TOLD} more areas, see --json\n")
    parts.append(_coverage(found))
    if found.found_bad:
        parts.append(_CURE)
    return "\n".join(parts)


def check_json(found: KcoreCheck) -> Dict[str, Any]:
    """Return the result as JSON has it; a class without pages is absent."""
    return {
        "areas": [_area_json(area) for area in found.areas],
        "totals": {kind: _classes(pages) for kind, pages in found.totals.items()},
        "verdict": dict(found.verdict),
        "through": found.through.value,
        "pages_read": found.pages,
        "pages_in_question": found.all_pages,
        "sample_pages": found.sample_pages,
    }


def _area_json(area: CheckedArea) -> Dict[str, Any]:
    values: Dict[str, Any] = {
        "start": f"{area.start:#x}",
        "end": f"{area.end:#x}",
        "kinds": list(area.kinds),
        "pages": _classes(area.pages),
        "examples": [_finding_json(finding) for finding in area.findings],
    }
    if area.findings_left_out:
        values["examples_left_out"] = area.findings_left_out
    if area.blank:
        values["equal_and_all_zeros"] = area.blank
    return values


def _finding_json(finding: PageFinding) -> Dict[str, Any]:
    values: Dict[str, Any] = {
        "page": finding.page,
        "class": finding.page_class.label,
    }
    if finding.same_as_page is not None:
        values["same_as_page"] = finding.same_as_page
    return values


def _classes(pages: Mapping[PageClass, int]) -> Dict[str, int]:
    return {c.label: pages[c] for c in PageClass if c in pages}


def _table(found: KcoreCheck) -> str:
    if not found.totals:
        return "no page to check\n"
    classes = [c for c in PageClass if any(c in t for t in found.totals.values())]
    rows = [
        [kind, str(sum(total.values())), *(str(total.get(c, "-")) for c in classes)]
        for kind, total in found.totals.items()
    ]
    headers = ["KIND", "PAGES", *(c.label.upper() for c in classes)]
    align = ["left", *["right"] * (len(headers) - 1)]
    text = plain_table(rows, headers, align)
    return f"{text}\n"


def _verdict(found: KcoreCheck) -> str:
    lines = [
        f"{kind:12}{verdict:12}{_VERDICTS[verdict].format(found.through.value)}"
        f"{_blank(found, kind, verdict)}"
        for kind, verdict in found.verdict.items()
    ]
    return "\n".join(lines) + "\n"


def _blank(found: KcoreCheck, kind: str, verdict: str) -> str:
    """Say so if nothing but pages of zeros are equal."""
    areas = [area for area in found.areas if kind in area.kinds]
    equal = sum(area.pages.get(PageClass.EQUAL, 0) for area in areas)
    if verdict != "equal" or equal > sum(area.blank for area in areas):
        return ""
    return ", but no page holds anything that would prove it"


def _area_text(area: CheckedArea) -> str:
    kinds = " ".join(area.kinds) or "area of no kind"
    counts = ", ".join(f"{n} {c.label}" for c, n in area.pages.items())
    lines = [f"{area.start:#x}-{area.end:#x} {kinds}: {counts}"]
    runs = list(_runs([f for f in area.findings if f.page_class.is_bad]))
    lines += [f"  {run}" for run in runs[:_RUNS_TOLD]]
    if len(runs) > _RUNS_TOLD or area.findings_left_out:
        lines.append("  …")
    return "\n".join(lines) + "\n"


def _runs(findings: Sequence[PageFinding]) -> Iterator[str]:
    """Yield a text for each run of pages of which the same is to be said."""
    run: List[PageFinding] = []
    for finding in [*findings, None]:
        if run and (finding is None or not _follows(run[-1], finding)):
            yield _run_text(run[0], run[-1])
            run = []
        if finding is not None:
            run.append(finding)


def _follows(one: PageFinding, other: PageFinding) -> bool:
    return (
        other.page == one.page + 1
        and other.page_class == one.page_class
        and other.same_as_page == one.same_as_page
    )


def _run_text(first: PageFinding, last: PageFinding) -> str:
    pages = f"page {first.page}"
    if last.page != first.page:
        pages = f"pages {first.page}-{last.page}"
    text = f"{pages}: {first.page_class.label}"
    if first.same_as_page is not None:
        text += f", the bytes of page {first.same_as_page}"
    return text


def _coverage(found: KcoreCheck) -> str:
    if found.pages == found.all_pages:
        return f"{found.pages} pages read\n"
    text = f"{found.pages} of {found.all_pages} pages read"
    if found.sample_pages is not None:
        text += (
            f": of areas that vm_map_ram() did not make at most {found.sample_pages} "
            "each; --all-pages reads them all"
        )
    return f"{text}\n"
