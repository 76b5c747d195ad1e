# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Report
------

One HTML file about a kernel's vmalloc state. It loads nothing, and needs no script.
"""

from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..model.areas import LAYOUTS, Area, State
from ..model.blocks import PageState
from ..model.inspection import Verdict
from ..model.pictures import BlockMaps, Report, Stretch
from ..model.series import Finding, PatchVerdict, SeriesVerdict, Verification
from ..model.space import Gaps
from ..model.sums import Sum, Top
from .drawing import block_drawing, legend, part_id, stretch_drawing
from .html import Content, Html, element, table
from .report_script import SCRIPT, SCRIPT_SOURCE
from .report_words import advice, held_texts, origin
from .sizes import counted, size_text
from .top import verdict_text as counter_text
from .verify import verdict_text

__all__ = ("report_html",)

_CALLERS = 30
_PROBLEMS = 100
_FAILURES = 20

_PATCH_LOOKS = {PatchVerdict.YES: "good", PatchVerdict.NO: "bad"}

_COLOURS: Dict[str, str] = {
    "vmalloc": "#3b6fd4",
    "vmap": "#1f9e89",
    "ioremap": "#8a6d3b",
    "vm_map_ram": "#b0479f",
    "vmap_block": "#e07b2a",
    "other": "#7a7f87",
    "lazy": "#c9b400",
    "pool": "#67a82f",
    "used": "#e07b2a",
    "freed": "#a33b3b",
    "unknown": "#808080",
    "mapped": "#c9b400",
}

_LOOKS = {Verdict.OK: "good", Verdict.FAILED: "bad"}

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --back: #ffffff; --line: #d5d9de;
  --soft: #f2f4f6; --faint: #5b636d; --bad: #b3261e; --good: #1a7f37; --link: #0b57d0;
  --warn: #fff4e0; --edge: #c77700; --bar: #cfe0fb; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e6ea; --back: #14171b;
  --line: #3a4048; --soft: #20252b; --faint: #a2abb5; --bad: #ff8a80; --good: #6fd08c;
  --link: #8ab4f8; --warn: #33270f; --edge: #e0a030; --bar: #2b4266; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 1100px; margin: 0 auto; padding: 1em; overflow-wrap: anywhere; }
h1 { font-size: 1.5em; margin-bottom: .2em; } h2 { font-size: 1.2em; margin-top: 2em;
  border-bottom: 1px solid var(--line); } h3 { font-size: 1em; } header p { margin: 0; }
a { color: var(--link); } nav { margin: .8em 0; }
nav a { margin-right: 1em; display: inline-block; }
table { border-collapse: collapse; margin: .6em 0; }
th, td { padding: .15em .7em; text-align: left; vertical-align: top; }
th { background: var(--soft); font-weight: 600; }
th button { all: unset; cursor: pointer; } th button:focus-visible {
  outline: 2px solid var(--link); } th button:hover { text-decoration: underline; }
th[aria-sort] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
.search input { font: inherit; color: inherit; background: var(--back); width: 15em;
  border: 1px solid var(--faint); border-radius: 4px; padding: .15em .4em; }
.search output { color: var(--faint); } [hidden] { display: none !important; }
td { border-top: 1px solid var(--line); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td a, td code, code { font-family: ui-monospace, monospace; font-size: .92em; }
.kinds { display: inline-block; min-width: 7em; }
td a { white-space: nowrap; } td a:has(code) { white-space: normal; }
td ul { margin: .2em 0 .5em; padding-left: 1.4em; }
:target { outline: 2px solid var(--link); outline-offset: 2px; }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); }
.faint, .origin { color: var(--faint); }
.warnings { background: var(--warn); border-left: 4px solid var(--edge); margin: .8em 0;
  padding: .6em 1em .6em 2em; } .warnings li { margin: .2em 0; }
.share { display: block; min-width: 5em; padding: 0 .3em; margin: 0 -.3em;
  print-color-adjust: exact; background: linear-gradient(var(--bar), var(--bar))
  no-repeat left / var(--share) 100%; }
svg { max-width: 100%; height: auto; background: var(--soft); display: block;
  print-color-adjust: exact; }
svg.bar { border: 1px solid var(--line); }
svg text { font: 12px ui-monospace, monospace; fill: var(--text); }
.part { opacity: .5; } .legend i { display: inline-block; width: .9em; height: .9em;
  vertical-align: -.1em; print-color-adjust: exact; }
.legend span { margin-right: 1em; display: inline-block; }
.area { fill: transparent; stroke: var(--back); stroke-width: 1; } .name { display: none; }
.named:hover .name, .named:focus .name { display: block; }
.named:hover .area, .named:focus .area { stroke: var(--text); stroke-width: 2; }
.named:focus { outline: none; }
details { margin: .4em 0; } .drawn { overflow-x: auto; } summary { cursor: pointer; }
td details { margin: 0; } .enlarged { margin-left: 1.5em; font-size: .92em; }
#summary td:first-child { white-space: nowrap; } svg a text { fill: var(--link); }
svg a .name { fill: var(--text); }
@media screen and (max-width: 800px) { .drawn svg { max-width: none; } .enlarged { margin-left: 0; }
  .drawn::after { content: "\\2194  scrolls sideways"; display: block; position: sticky; left: 0;
    color: var(--faint); font-size: .92em; }
  th, td { padding: .15em .4em; } td:last-child svg { width: 100%; }
  #summary td:first-child { white-space: normal; overflow-wrap: normal; }
  .long table, .long tbody, .long thead { display: block; }
  .long tr { display: block; border-top: 1px solid var(--line); padding: .2em 0; }
  .long th, .long td { display: inline-block; border: 0; padding: 0 .6em 0 0; }
  .long th { background: none; color: var(--faint); }
  .long .n { min-width: 5em; } .long tr > :last-child { display: block; } }
@media print { :root { color-scheme: light; --text: #000; --back: #fff; --link: #000; }
  body { max-width: none; font-size: 9pt; } th, td { padding: .1em .4em; }
  nav, .search, .enlarged { display: none; } .drawn { overflow: visible; }
  a { text-decoration: none; } h2, h3 { break-after: avoid; }
  tr, svg, li { break-inside: avoid; }
  td details::details-content { content-visibility: visible; block-size: auto; } }
"""


def report_html(report: Report) -> str:
    """Return the file."""
    kernel = report.kernel
    name = kernel.release if kernel else report.source
    sections = list(_sections(report))
    nav = element(
        "nav", *(element("a", title, href=f"#{id_}") for id_, title, _ in sections)
    )
    body = element(
        "body",
        element(
            "header",
            element("h1", f"vmalloc report: {name}"),
            element("p", ", ".join(origin(report)), _class="origin"),
            nav,
        ),
        element(
            "main",
            *(
                element("section", element("h2", title), *content, id=id_)
                for id_, title, content in sections
            ),
        ),
        element("script", Html(SCRIPT)),
    )
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {SCRIPT_SOURCE}"
    )
    head = element(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width">'),
        element("title", f"vmalloc report: {name}"),
        element("style", Html(_STYLE + _colours())),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _sections(report: Report) -> "Iterator[tuple[str, str, List[Html]]]":
    links = _links(report)
    yield "summary", "Summary", _summary(report)
    if report.gaps:
        yield "space", "Space", _space(report.gaps)
    if report.stretches:
        yield "map", "Address space", _map(report.stretches, links)
    for top in report.tops:
        first = _first_areas(report.largest) if top.by == "caller" else {}
        yield f"by-{top.by}", f"By {top.by}", [_top(top, first)]
    yield "areas", "Largest areas", [_areas(report.largest, report.stretches)]
    if report.blocks and report.blocks.shown:
        yield "blocks", "Blocks", _blocks(report.blocks, report.stretches)
    if report.checks is not None:
        yield "fsck", "Consistency", _checks(report)
    if report.series is not None:
        yield "verify", "The vm_map_ram series", _series(report.series)
    if report.problems:
        yield "problems", "Problems while reading", [_problems(report)]


def _links(report: Report) -> Dict[int, str]:
    """Return where tables tell of areas and blocks, by their first address."""
    links = {area.start: f"a-{area.start:x}" for area in report.largest}
    blocks = report.blocks.shown if report.blocks else ()
    return {**links, **{block.start: f"b-{block.start:x}" for block in blocks}}


def _place(stretches: Sequence[Stretch], address: int, own: str) -> str:
    """Return where an address is drawn, or its own place if it is not."""
    for stretch in stretches:
        if stretch.start <= address < stretch.end:
            for part in stretch.parts:
                if part.start <= address < part.end:
                    return part_id(part)
            return f"s-{stretch.start:x}"
    return own


def _first_areas(areas: Sequence[Area]) -> Dict[str, int]:
    """Return the largest area of each caller that is shown."""
    return {area.caller or "": area.start for area in reversed(areas)}


def _colours() -> str:
    return "".join(
        f".{name} {{ fill: {colour}; background: {colour}; }}\n"
        for name, colour in _COLOURS.items()
    )


def _summary(report: Report) -> List[Html]:
    kernel = report.kernel
    facts: List[Sequence[Content]] = [("source", report.source)]
    if kernel:
        facts += [
            ("kernel", kernel.release),
            (
                "layout",
                f"{kernel.layout}: {LAYOUTS.get(kernel.layout, 'unknown')}; "
                f"types from {kernel.symbols}",
            ),
        ]
    facts += list(held_texts(report))
    if report.pages and kernel:
        good = _verdict(report.pages.verdict == "equal")
        said = counter_text(report.pages, kernel.live).strip()
        facts.append(("counter", element("span", said, _class=good)))
    if report.checks is not None:
        failed = sum(check.verdict == Verdict.FAILED for check in report.checks)
        said = f"{failed} of {len(report.checks)} checks failed"
        facts.append(("fsck", element("span", said, _class=_verdict(not failed))))
    if report.series is not None:
        said = verdict_text(report.series)
        # Of a vmcore it is no fault: that is read past /proc/kcore.
        look = _series_look(report.series) if kernel and kernel.live else "plain"
        facts.append(("vm_map_ram series", element("span", said, _class=look)))
    return [_warnings(report), table(("fact", "value"), facts)]


def _warnings(report: Report) -> Html:
    ids = {
        *("summary", "areas", *(f"by-{top.by}" for top in report.tops)),
        *(["space"] if report.gaps else []),
        *(["blocks"] if report.blocks and report.blocks.shown else []),
        *(["fsck"] if report.checks is not None else []),
        *(["verify"] if report.series is not None else []),
        *(["problems"] if report.problems else []),
    }
    items = []
    for warning in advice(report):
        more: List[Content] = []
        if warning.section in ids:
            more = [" ", element("a", "See there.", href=f"#{warning.section}")]
        what = element("strong", warning.what)
        items.append(element("li", what, f" {warning.advice}".rstrip(), *more))
    if not items:
        return element("p", "Nothing to warn of.", _class="good")
    return element("ul", *items, _class="warnings")


def _verdict(good: bool) -> str:
    return "good" if good else "bad"


def _space(gaps: Gaps) -> List[Html]:
    rows = [
        (
            gaps.ranges[state],
            size_text(gaps.bytes[state]),
            _share(gaps.bytes[state] / gaps.total if gaps.total else 0),
            state.label,
        )
        for state in State
    ]
    largest = gaps.largest
    sizes = [
        (size_text(one.size), one.gaps, size_text(one.bytes)) for one in gaps.histogram
    ]
    where = (
        f"{size_text(largest.size)} at {largest.start:#x}"
        if largest
        else "there is none"
    )
    # A text has its areas, and nothing says where vmalloc space begins and ends.
    lazy = ""
    if gaps.lazy:
        lazy = f" Waiting to be purged: {gaps.lazy_pages} pages, of at most "
        lazy += f"{gaps.lazy.maximum}."
    return [
        element(
            "p",
            f"{gaps.space.start:#x}-{gaps.space.end:#x}, {size_text(gaps.total)}"
            f"{'' if gaps.lazy else ', from the first area to the last'}. "
            f"Largest gap: {where}.{lazy}",
        ),
        table(("ranges", "size", "share", "state"), rows, 3),
        element("h3", "Gaps by size"),
        table(("from", "gaps", "together"), sizes, 3),
    ]


def _map(stretches: Sequence[Stretch], links: Mapping[int, str]) -> List[Html]:
    kinds = [(kind, kind) for kind in list(_COLOURS)[:8]]
    drawn: List[Html] = [
        element(
            "p",
            "Each stretch is cut into cells that show what holds most of them; pale: "
            "less than half is held. Wide gaps are left out. The largest areas have "
            "names, below the drawing: point at them, or go there with the tabulator "
            "key; they lead to the tables. Addresses of rows lead to the row enlarged.",
        ),
        legend(kinds),
    ]
    rows = []
    for before, stretch in zip([None, *stretches], stretches):
        gap = size_text(stretch.start - before.end) if before else ""
        link = element("a", f"{stretch.start:#x}", href=f"#s-{stretch.start:x}")
        size = size_text(stretch.end - stretch.start)
        rows.append((gap, size, stretch.areas, size_text(stretch.bytes), link))
    headers = ("gap", "length", "areas", "held", "from")
    drawn.append(_long(headers, rows, 4))
    for stretch in stretches:
        drawn.append(_stretch(stretch, links))
    return drawn


def _stretch(stretch: Stretch, links: Mapping[int, str]) -> Html:
    said = (
        f"{stretch.start:#x}-{stretch.end:#x}: {counted(stretch.areas, 'area')}, "
        f"a cell is {size_text(stretch.cell_bytes)}"
    )
    parts = [_part(part, links) for part in stretch.parts]
    drawn = element("div", stretch_drawing(stretch, links), _class="drawn")
    whole = element("div", drawn, *parts, id=f"s-{stretch.start:x}")
    return element("details", element("summary", said), whole, open="")


def _part(part: Stretch, links: Mapping[int, str]) -> Html:
    """Return a row of a drawing enlarged, closed until somebody wants to see it."""
    said = (
        f"{part.start:#x}-{part.end:#x} enlarged: {counted(part.areas, 'area')}, "
        f"{size_text(part.bytes)} held, a cell is {size_text(part.cell_bytes)}"
    )
    # A link to what is in a closed element opens it.
    drawn = element(
        "div", stretch_drawing(part, links), id=part_id(part), _class="drawn"
    )
    return element("details", element("summary", said), drawn, _class="enlarged")


def _top(top: Top, first_areas: Mapping[str, int]) -> Html:
    rows: List[Sequence[Content]] = [
        _sum(top, row, first_areas.get(row.key)) for row in top.rows[:_CALLERS]
    ]
    hidden = top.rows[_CALLERS:]
    if hidden:
        rest = size_text(sum(row.bytes for row in hidden))
        rows.append(("", rest, "", "", f"… and {len(hidden)} more"))
    return _long(("areas", "size", "pages", "share", top.by), rows, 4)


def _long(
    headers: Sequence[str], rows: Sequence[Sequence[Content]], numbers: int
) -> Html:
    """Return a table that on a narrow page has its last column below the others."""
    return element("div", table(headers, rows, numbers), _class="long")


def _sum(top: Top, row: Sum, area: Optional[int]) -> Sequence[Content]:
    key = element("code", row.key)
    if area is not None:
        key = element("a", key, href=f"#a-{area:x}")
    return row.areas, size_text(row.bytes), row.pages, _share(top.share(row)), key


def _share(share: float) -> Html:
    """Return a part of the whole, with a bar behind it."""
    style = Html(f"--share:{share:.1%}")
    return element("span", f"{share:.1%}", _class="share", style=style)


def _areas(areas: Sequence[Area], stretches: Sequence[Stretch]) -> Html:
    """Return areas as a table, those that are alike in one row."""
    alike: Dict[Tuple[object, ...], List[Area]] = {}
    for area in areas:
        key = (area.size, area.pages, area.kinds, area.caller)
        alike.setdefault(key, []).append(area)
    rows = [
        (
            len(group),
            size_text(group[0].size),
            "" if group[0].pages is None else group[0].pages,
            element("span", " ".join(group[0].kinds), _class="kinds"),
            _ranges(group, stretches),
            element("code", group[0].caller or ""),
        )
        for group in alike.values()
    ]
    headers = ("areas", "size of each", "pages of each", "kinds", "where", "caller")
    return _long(headers, rows, 3)


def _ranges(areas: Sequence[Area], stretches: Sequence[Stretch]) -> Html:
    links = [_anchor("a", area.start, area.end, stretches) for area in areas]
    if len(links) == 1:
        return links[0]
    together = size_text(sum(area.size for area in areas))
    listed = element("ul", *(element("li", link) for link in links))
    return element("details", element("summary", f"together {together}"), listed)


def _anchor(kind: str, start: int, end: int, stretches: Sequence[Stretch]) -> Html:
    """Return a range that can be linked to, and that leads to where it is drawn."""
    name = f"{kind}-{start:x}"
    place = _place(stretches, start, name)
    return element("a", f"{start:#x}-{end:#x}", id=name, href=f"#{place}")


def _blocks(maps: BlockMaps, stretches: Sequence[Stretch]) -> List[Html]:
    rows = [
        (
            "?" if block.used_pages is None else block.used_pages,
            block.stranded_pages,
            block.free_pages,
            _anchor("b", block.start, block.end, stretches),
            block_drawing(states),
        )
        for block, states in zip(maps.shown, maps.states)
    ]
    totals = maps.totals
    said = (
        f"{counted(totals.blocks, 'block')} with {counted(totals.pages, 'page')}, "
        f"{totals.stranded_pages} of them stranded: freed, but of no use before the "
        "whole block is empty, or purged. Those that strand most:"
    )
    looks = [
        ("used", "used"),
        ("freed", "freed, of no use before the whole block is given back"),
        ("mapped", "mapped but unused"),
    ]
    if any(PageState.UNKNOWN in states for states in maps.states):
        looks.append(("unknown", "used or freed, which is not known"))
    headers = ("used", "stranded", "free", "block", "pages")
    return [element("p", said), legend(looks), _long(headers, rows, 3)]


def _checks(report: Report) -> List[Html]:
    rows: List[Sequence[Content]] = []
    for check in report.checks or ():
        look = _LOOKS.get(check.verdict, "faint")
        verdict = element("span", check.verdict.value, _class=look)
        found = [
            element("li", element("code", f"{failure.address:#x}"), f" {failure.text}")
            for failure in check.failures[:_FAILURES]
        ]
        more = len(check.failures) - len(found)
        found += [element("li", f"… and {more} more")] if more else []
        what = [element("div", f"{check.id}: {check.title}")]
        what += [element("div", check.reason, _class="faint")] if check.reason else []
        what += [element("ul", *found)] if found else []
        rows.append((check.checked, verdict, element("div", *what)))
    return [table(("checked", "verdict", "check"), rows, 1)]


def _series_look(series: Verification) -> str:
    if series.verdict == SeriesVerdict.UNKNOWN:
        return "faint"
    if series.verdict == SeriesVerdict.FIXED:
        surely = any(one.verdict == PatchVerdict.YES for one in series.findings)
        return "bad" if surely else "plain"
    return "bad"


def _series(series: Verification) -> List[Html]:
    rows: List[Sequence[Content]] = []
    for patch in series.patches:
        said = f"{patch.verdict.value}, {patch.strength.value}"
        look = _PATCH_LOOKS.get(patch.verdict, "faint")
        evidence = element("ul", *(element("li", text) for text in patch.evidence))
        title = element("div", patch.title)
        verdict = element("span", said, _class=look)
        rows.append((patch.number, verdict, element("div", title, evidence)))
    findings = [
        element("p", f"{finding.id}: {finding.text}", _class=_finding_look(finding))
        for finding in series.findings
    ]
    return [*findings, table(("patch", "verdict", "evidence"), rows, 1)]


def _finding_look(finding: Finding) -> str:
    return "bad" if finding.verdict == PatchVerdict.YES else "faint"


def _problems(report: Report) -> Html:
    shown = report.problems[:_PROBLEMS]
    rows = [(str(one.what), one.where, one.detail) for one in shown]
    more = len(report.problems) - len(rows)
    rows += [(f"… and {more} more", "", "")] if more else []
    return table(("what", "where", "detail"), rows)
