# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a report says
------------------

The sentences that a report has in each format: where it is from, what to do about what is
odd, and why numbers that look the same are not.
"""

from typing import Iterator, List, NamedTuple, Tuple

from ..model.areas import State
from ..model.inspection import Verdict
from ..model.pictures import Report
from ..model.series import PatchVerdict
from .sizes import counted, size_text
from .top import left_out_text

__all__ = ("Warning", "advice", "held_texts", "origin")

_WHAT_TO_DO = {
    "ls": ("problems", "Take what is listed here as incomplete."),
    "top": ("by-caller", "An area may be missing here: see what the checks say."),
    "gaps": (
        "space",
        "See who holds most, and ask vmap gaps --fit SIZE whether an allocation would "
        "succeed.",
    ),
    "blocks": (
        "blocks",
        "Whoever holds the few used pages of these blocks keeps the rest from use.",
    ),
    "verify": (
        "verify",
        "Debuggers that read /proc/kcore see zeros there; drgn_vmap reads memory itself.",
    ),
}
"""By the verb that a warning names: the section that tells more, and what to do."""


class Warning(NamedTuple):
    """Something to worry about."""

    what: str
    advice: str
    """What to do about it."""

    section: str
    """Where more is told, if the report has that section."""


def origin(report: Report) -> List[str]:
    """Return what a report was made from, when, and by what."""
    kernel = report.kernel
    host = (
        f"host {report.host}"
        if report.host
        else "" if kernel is None else "host unknown"
    )
    crashed = f"crashed {report.crashed}" if report.crashed else ""
    made = f"made {report.made}" if report.made else ""
    return [part for part in (host, f"from {report.source}", crashed, made) if part]


def advice(report: Report) -> Iterator[Warning]:
    """Yield what to worry about, the worst first."""
    failed = sum(check.verdict == Verdict.FAILED for check in report.checks or ())
    if failed:
        kernel = report.kernel
        why = "memory was overwritten, or the dump is damaged"
        if kernel and kernel.live:
            why = "the kernel may have changed meanwhile: run it again"
        yield Warning(
            f"{counted(failed, 'check')} of consistency failed.",
            f"If so, {why}.",
            "fsck",
        )
    for finding in report.series.findings if report.series else ():
        if finding.verdict == PatchVerdict.YES:
            yield Warning(f"{finding.id}:", finding.text, "verify")
    for text in report.warnings:
        what, _, verb = text.rpartition(": ")
        section, todo = _WHAT_TO_DO.get(verb, ("", ""))
        yield Warning(f"{what}." if section else text, todo, section)
    if report.tops[0].left_out:
        yield Warning(
            left_out_text(report.tops[0].left_out) + ".",
            "The lines are named where problems are.",
            "problems",
        )
    if report.problems and not report.warnings:
        count = counted(len(report.problems), "problem")
        yield Warning(
            f"{count} while reading.", "What they are about may be missing.", "problems"
        )


def held_texts(report: Report) -> Iterator[Tuple[str, str]]:
    """Yield how much areas hold, and what of it other numbers leave out; titles first."""
    total = report.tops[0].total
    held = f"{total.areas} in use, {size_text(total.bytes)}"
    yield "areas", f"{held}, {counted(total.pages, 'page')}"
    pages = report.pages
    if pages and pages.counter and total.pages > pages.summed_pages:
        others = counted(total.pages - pages.summed_pages, "page")
        said = f"{others} that {pages.counter.name} does not count, such as those that"
        yield "of these", f"{said} vmap() was given to keep"
    gaps = report.gaps
    if gaps and gaps.lazy and gaps.outside_bytes:
        outside = counted(total.areas - gaps.ranges[State.BUSY], "area")
        said = (
            f"{outside} with {size_text(gaps.outside_bytes)} outside of vmalloc space,"
        )
        yield "of these", f"{said} such as modules, which the sums of Space leave out"
