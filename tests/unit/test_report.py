# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Report
------

The HTML file: well-formed, by itself, small, and with every name in it as text.
"""

import base64
import hashlib
import re
from pathlib import Path
from typing import Sequence

import pytest

from drgn_vmap._numpy import np
from drgn_vmap.analyses.blocks import block_totals
from drgn_vmap.analyses.report import map_blocks, stretches
from drgn_vmap.model.areas import VMAP_RAM, Snapshot, State
from drgn_vmap.render.report import report_html
from drgn_vmap.render.report_script import SCRIPT
from drgn_vmap.render.report_text import report_markdown, report_text
from tests.expect.html import Page
from tests.fakes.blocks import FakeBlock, blocks_of
from tests.fakes.reports import HOSTILE, hostile_report, report_of
from tests.fakes.snapshots import BASE, PAGE, area, snapshot_of
from tests.fakes.vmallocinfo import HASHED, RAW
from tests.running import without_drgn

VM_ALLOC, VM_MAP = 0x2, 0x4


def test_hostile_names_are_text() -> None:
    """No name becomes an element or reaches the terminal as it is."""
    html = report_html(hostile_report())
    page = Page(html)
    assert page.scripts == [SCRIPT] and "\x1b" not in html and "\0" not in html
    assert page.text.count("<script>alert(1)</script>") >= 14
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "k" * 1000 not in html and "characters)" in html


def test_by_itself() -> None:
    """
    It loads nothing: links stay within the file, and each leads somewhere. The only script
    that may run is its own.
    """
    html = report_html(hostile_report())
    page = Page(html)
    assert not page.tags & {"link", "img", "iframe", "object", "base"}
    assert "url(" not in html and "@import" not in html
    links = [value or "" for name, value in page.attributes if name == "href"]
    assert links and all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not [name for name, _ in page.attributes if name == "src"]
    [policy] = re.findall('Content-Security-Policy" content="([^"]*)"', html)
    digest = hashlib.sha256("".join(page.scripts).encode()).digest()
    assert policy.split("; ") == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{base64.b64encode(digest).decode()}'",
    ]


def cells(html: str, name: str) -> float:
    """Return how wide all rectangles of a class are together."""
    paths = re.findall(rf'<path class="{name}(?: part)?" d="([^"]*)"', html)
    widths = [float(w) for path in paths for w in re.findall(r"h([\d.]+)v", path)]
    return sum(widths)


def test_drawing() -> None:
    """Two stretches; a cell a page: 5 of vmalloc, 3 of vmap, 70 of vm_map_ram."""
    rows = [
        area(0, 5, flags=VM_ALLOC),
        area(6, 3, flags=VM_MAP),
        area(9, 2, State.LAZY),
        area(11, 99_989, State.FREE),
        area(100_000, 70, va_flags=VMAP_RAM),
    ]
    snapshot = snapshot_of(rows)
    found = stretches(snapshot)
    assert [(s.start, s.areas, s.cell_bytes) for s in found] == [
        (BASE, 3, PAGE),
        (BASE + 100_000 * PAGE, 1, PAGE),
    ]
    lazy = ("vmalloc",) * 5 + ("",) + ("vmap",) * 3 + ("lazy",) * 2
    assert found[0].cells == lazy
    html = report_html(report_of(snapshot))
    width = cells(html, "vmalloc") / 5
    assert cells(html, "vmap") == 3 * width
    assert cells(html, "vm_map_ram") == 70 * width


def test_cells_of_many_pages() -> None:
    """A cell shows what holds most of it; one held by less than half is pale."""
    rows = [
        area(0, 3, flags=VM_ALLOC),
        area(3, 1, flags=VM_MAP),
        area(4093, 3, flags=VM_MAP),
    ]
    rows += [area(at, 1, flags=VM_ALLOC) for at in (4, *range(200, 4093, 200))]
    [stretch] = stretches(snapshot_of(rows))
    assert (stretch.cell_bytes, len(stretch.cells)) == (4 * PAGE, 1024)
    assert stretch.cells[:3] == ("vmalloc", "vmalloc", "")
    assert stretch.full[:3] == (True, False, False)
    assert (stretch.cells[-1], stretch.full[-1]) == ("vmap", True)


def test_enlarged() -> None:
    """A row of 4 page cells has a part of 1 page cells; what is between them shows."""
    rows = [area(at, 1, flags=VM_ALLOC) for at in range(0, 4096, 2)]
    rows += [area(1, 1, flags=VM_MAP)]
    [stretch] = stretches(snapshot_of(rows))
    assert (stretch.cell_bytes, len(stretch.parts)) == (4 * PAGE, 8)
    first = stretch.parts[0]
    assert (first.start, first.cell_bytes) == (BASE, PAGE)
    assert first.cells[:4] == ("vmalloc", "vmap", "vmalloc", "")
    assert [part.areas for part in stretch.parts] == [257] + [256] * 7
    assert sum(part.bytes for part in stretch.parts) == stretch.bytes == 2049 * PAGE
    html = report_html(report_of(snapshot_of(rows)))
    assert all(f'href="#p-{part.start:x}"' in html for part in stretch.parts)
    Page(html)


def test_two_hundred_thousand_areas() -> None:
    """They are summed up, not dumped: the file stays far below 3 MB."""
    count = 200_000
    one = area(0, 2, flags=VM_ALLOC, nr_pages=1)
    snapshot = snapshot_of([one])
    areas = snapshot.areas.take(np.zeros(count, np.intp))
    spread = np.random.default_rng(1).integers(3, 4000, count).astype(np.uint64)
    start = np.uint64(BASE) + np.cumsum(spread) * np.uint64(PAGE)
    callers = np.arange(count, dtype=np.uint64) % np.uint64(5000)
    columns = {**vars(areas), "start": start, "end": start + np.uint64(2 * PAGE)}
    table = type(areas)(**{**columns, "caller": callers})
    names = {at: f"{HOSTILE}{at}" for at in range(1, 5000)}
    html = report_html(report_of(Snapshot(snapshot.kernel, table, names)))
    assert len(html.encode()) < 1_000_000
    assert "200000 in use" in html
    Page(html)


def test_no_areas() -> None:
    """A kernel without any has a report too."""
    Page(report_html(report_of(snapshot_of([]))))


@pytest.mark.parametrize("text, drawn", [(RAW, True), (HASHED, False)])
def test_of_a_file(tmp_path: Path, text: str, drawn: bool) -> None:
    """A copy of /proc/vmallocinfo has a report; a drawing needs real addresses."""
    source, output = tmp_path / "vmallocinfo", tmp_path / "report.html"
    source.write_text(text)
    done = without_drgn("report", "--from", str(source), "-o", str(output))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = Page(output.read_text())
    assert ("svg" in page.tags) == drawn
    assert ("hashed" in page.text) != drawn


@pytest.mark.parametrize("options", [(), ("-o", "/nowhere/report.html")])
def test_cannot_write(tmp_path: Path, options: Sequence[str]) -> None:
    """Without a place to write to there is one line that says so."""
    source = tmp_path / "vmallocinfo"
    source.write_text(RAW)
    done = without_drgn("report", "--from", str(source), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_blocks_with_most_stranded_come_first() -> None:
    """Their pages are drawn: 2 used, 3 freed, 1 mapped but unused."""
    blocks = blocks_of(
        [FakeBlock(free=128), FakeBlock(free=122, used="#..#..", mapped="#..#!.")]
    )
    maps = map_blocks(blocks)
    assert [block.stranded_pages for block in maps.shown] == [4, 0]
    assert maps.totals == block_totals(blocks)
    html = report_html(report_of(snapshot_of([]), blocks=maps))
    page = cells(html, "used") / 2
    assert (cells(html, "freed"), cells(html, "mapped")) == (3 * page, page)


def test_where_it_is_from() -> None:
    """Host, time of the crash, when and by what it was made stand below the title."""
    parts = {"made": "M by drgn_vmap", "host": "db<1>", "crashed": "C"}
    html = report_html(report_of(snapshot_of([area(0, 5)]), **parts))
    assert "host db&lt;1&gt;, from vmcore, crashed C, made M by drgn_vmap" in html


@pytest.mark.parametrize("form", ["html", "markdown", "text"])
def test_of_a_file_is_not_told_where(form: str, tmp_path: Path) -> None:
    """The name of a file is in the report, its path is this machine's alone."""
    source, output = tmp_path / "vmallocinfo", tmp_path / "report"
    source.write_text(RAW)
    done = without_drgn(
        *("report", "--from", str(source), "-o", str(output), "--format", form)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = output.read_text()
    assert "vmallocinfo, a copy of" in text and str(tmp_path) not in text
    assert re.search(r"made \d{4}\\?-\d\d\\?-\d\d \d\d:\d\d UTC by drgn\\?_vmap", text)


def test_warnings_come_first() -> None:
    """Before any fact, each with what to do and where more is told."""
    parts = {"gaps": None, "warnings": ("300 freed pages wait: gaps", "odd")}
    html = report_html(report_of(snapshot_of([area(0, 5)]), **parts))
    assert html.index("300 freed pages wait.") < html.index("<table>")
    # Without the section, no link leads there.
    assert "vmap gaps --fit" in html and 'href="#space"' not in html
    for text in (report_text(hostile_report()), report_markdown(hostile_report())):
        head, _, rest = text.partition("Summary")
        assert "1 check of consistency failed" in head and "check" in rest


def test_areas_that_are_alike() -> None:
    """They share a row, and each still has a place that links lead to."""
    rows = [area(at * 10, 4, flags=VM_ALLOC, caller=1) for at in range(9)]
    rows.append(area(100, 9, flags=VM_ALLOC, caller=2))
    snapshot = snapshot_of(rows, {1: "stacks+0x1/0x2", 2: "other+0x1/0x2"})
    html = report_html(report_of(snapshot))
    table = html[html.index('<section id="areas">') :].partition("</section>")[0]
    assert table.count('<td class="n">') == 2 * 3
    assert table.count("stacks+0x1/0x2") == 1 and "together 144.0 KiB" in table
    ids = Page(html).ids
    assert all(f"a-{BASE + at * 10 * PAGE:x}" in ids for at in range(9))


def test_names_in_the_drawing() -> None:
    """An area is named where it is drawn, and leads to its row; the row leads back."""
    rows = [area(0, 5, flags=VM_ALLOC, caller=1), area(9, 1, State.LAZY)]
    html = report_html(report_of(snapshot_of(rows, {1: "maker+0x1/0x2"})))
    drawn = html[html.index("<svg") : html.index("</svg>")]
    assert f'<a href="#a-{BASE:x}" class="named">' in drawn
    assert "maker+0x1/0x2 vmalloc, 20.0 KiB at" in drawn
    # Areas that no table has can have the focus too.
    assert '<g tabindex="0" class="named">' in drawn
    assert f'id="a-{BASE:x}" href="#s-{BASE:x}"' in html


def test_hostile_names_in_markdown() -> None:
    """No name becomes an element, a table's cell or an escape of the terminal."""
    text = report_markdown(hostile_report())
    assert "\x1b" not in text and "\0" not in text and "k" * 1000 not in text
    assert not re.search(r"(?<!\\)<script", text)
    for line in text.splitlines():
        if line.startswith("| "):
            assert re.search(r"(?<!\\)\|", line.strip("| ")), line
    plain = report_text(hostile_report())
    assert "\x1b" not in plain and "\0" not in plain and "<script>" in plain
