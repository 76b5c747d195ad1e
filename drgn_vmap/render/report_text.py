# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Report as text
--------------

What the HTML file says, but for drawings: as Markdown, to paste into a ticket, and as plain
text, to mail.
"""

import re
from typing import Iterator, List, NamedTuple, Sequence

from ..model.areas import LAYOUTS, State
from ..model.inspection import Verdict
from ..model.pictures import Report
from ..model.sums import Top
from .escape import bounded
from .report_words import advice, held_texts, origin
from .sizes import counted, size_text
from .tables import plain_table
from .top import verdict_text as counter_text
from .verify import verdict_text

__all__ = ("report_markdown", "report_text")

_ROWS = 20


class _Table(NamedTuple):
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int
    """How many of the first columns hold numbers."""


class _Section(NamedTuple):
    title: str
    lines: Sequence[str] = ()
    """Each is an item of a list."""

    table: _Table = _Table((), (), 0)


def report_markdown(report: Report) -> str:
    """Return the report as Markdown, as most trackers of tickets take it."""
    parts = [f"# {_marked(_title(report))}", _marked(", ".join(origin(report)))]
    for section in _sections(report):
        parts.append(f"## {_marked(section.title)}")
        if section.lines:
            parts.append("\n".join(f"- {_marked(line)}" for line in section.lines))
        if section.table.rows:
            parts.append(_markdown_table(section.table))
    return "\n\n".join(parts) + "\n"


def report_text(report: Report) -> str:
    """Return the report as plain text."""
    parts = [bounded(_title(report)), bounded(", ".join(origin(report)))]
    for section in _sections(report):
        title = bounded(section.title)
        parts.append(f"{title}\n{'-' * len(title)}")
        if section.lines:
            parts.append("\n".join(f"* {bounded(line)}" for line in section.lines))
        if section.table.rows:
            headers, rows, numbers = section.table
            align = ["right" if at < numbers else "left" for at in range(len(headers))]
            cells = [[bounded(cell) for cell in row] for row in rows]
            parts.append(plain_table(cells, headers, align))
    return "\n\n".join(parts) + "\n"


def _title(report: Report) -> str:
    return (
        f"vmalloc report: {report.kernel.release if report.kernel else report.source}"
    )


def _sections(report: Report) -> Iterator[_Section]:
    warnings = [f"{one.what} {one.advice}".strip() for one in advice(report)]
    yield _Section("Warnings", warnings or ["nothing to warn of"])
    yield _Section("Summary", list(_facts(report)))
    if report.gaps:
        gaps = report.gaps
        largest = gaps.largest
        where = (
            f"{size_text(largest.size)} at {largest.start:#x}" if largest else "none"
        )
        rows = [
            (str(gaps.ranges[state]), size_text(gaps.bytes[state]), state.label)
            for state in State
        ]
        said = f"{gaps.space.start:#x}-{gaps.space.end:#x}, {size_text(gaps.total)}"
        table = _Table(("ranges", "size", "state"), rows, 2)
        yield _Section("Space", [said, f"largest gap: {where}"], table)
    for top in report.tops:
        yield _Section(f"By {top.by}", (), _top(top))
    areas = [
        (
            size_text(area.size),
            "" if area.pages is None else str(area.pages),
            f"{area.start:#x}-{area.end:#x}",
            " ".join(area.kinds),
            area.caller or "",
        )
        for area in report.largest[:_ROWS]
    ]
    table = _Table(("size", "pages", "area", "kinds", "caller"), areas, 2)
    yield _Section("Largest areas", (), table)
    if report.blocks and report.blocks.shown:
        blocks = [
            (
                "?" if block.used_pages is None else str(block.used_pages),
                str(block.stranded_pages),
                str(block.free_pages),
                f"{block.start:#x}",
            )
            for block in report.blocks.shown[:_ROWS]
        ]
        table = _Table(("used", "stranded", "free", "block"), blocks, 3)
        yield _Section("Blocks that strand most", (), table)
    yield from _outcomes(report)


def _facts(report: Report) -> Iterator[str]:
    kernel = report.kernel
    if kernel:
        layout = f"layout {kernel.layout}: {LAYOUTS.get(kernel.layout, 'unknown')}"
        yield f"kernel {kernel.release}, {layout}, types from {kernel.symbols}"
    for title, text in held_texts(report):
        yield f"{title}: {text}"
    if report.pages and kernel:
        yield counter_text(report.pages, kernel.live).strip()
    if report.series is not None:
        yield f"vm_map_ram series: {verdict_text(report.series)}"


def _top(top: Top) -> _Table:
    rows = [
        (
            str(row.areas),
            size_text(row.bytes),
            str(row.pages),
            f"{top.share(row):.1%}",
            row.key,
        )
        for row in top.rows[:_ROWS]
    ]
    hidden = top.rows[_ROWS:]
    if hidden:
        rest = size_text(sum(row.bytes for row in hidden))
        rows.append(("", rest, "", "", f"… and {len(hidden)} more"))
    return _Table(("areas", "size", "pages", "share", top.by), rows, 4)


def _outcomes(report: Report) -> Iterator[_Section]:
    """Yield what fsck and verify found, and what could not be read."""
    if report.checks is not None:
        lines = []
        for check in report.checks:
            if check.verdict != Verdict.OK:
                lines.append(f"{check.verdict.value}: {check.id}: {check.title}")
                lines += [
                    f"{check.id}: {failure.address:#x}: {failure.text}"
                    for failure in check.failures[:_ROWS]
                ]
        good = sum(check.verdict == Verdict.OK for check in report.checks)
        lines.append(f"{good} of {counted(len(report.checks), 'check')} ok")
        yield _Section("Consistency", lines)
    if report.series is not None:
        patches = [
            (str(patch.number), patch.verdict.value, patch.strength.value, patch.title)
            for patch in report.series.patches
        ]
        findings = [f"{one.id}: {one.text}" for one in report.series.findings]
        table = _Table(("patch", "verdict", "evidence", "title"), patches, 1)
        yield _Section("The vm_map_ram series", findings, table)
    if report.problems:
        rows = [
            (one.what.value, one.where, one.detail) for one in report.problems[:_ROWS]
        ]
        more = len(report.problems) - len(rows)
        said = [f"… and {more} more"] if more > 0 else []
        table = _Table(("what", "where", "detail"), rows, 0)
        yield _Section("Problems while reading", said, table)


def _marked(text: str) -> str:
    """Return text that means nothing but itself in Markdown, nor in HTML within it."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|&~@-])", r"\\\1", bounded(text))


def _markdown_table(table: _Table) -> str:
    ruler = ["--:" if at < table.numbers else "---" for at in range(len(table.headers))]
    rows: List[Sequence[str]] = [table.headers, ruler]
    rows += [[_marked(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
