# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Report
------

The HTML file: well-formed, by itself, small, and with every name in it as text.
"""

import re
from pathlib import Path
from typing import Sequence

import pytest

from drgn_vmap._numpy import np
from drgn_vmap.analyses.blocks import block_totals
from drgn_vmap.analyses.report import map_blocks, stretches
from drgn_vmap.model.areas import VMAP_RAM, Snapshot, State
from drgn_vmap.render.report import report_html
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
    assert "script" not in page.tags and "\x1b" not in html and "\0" not in html
    assert page.text.count("<script>alert(1)</script>") >= 14
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "k" * 1000 not in html and "characters)" in html


def test_by_itself() -> None:
    """It loads nothing: links stay within the file, and each leads somewhere."""
    html = report_html(hostile_report())
    page = Page(html)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "base"}
    assert "url(" not in html and "@import" not in html
    links = [value or "" for name, value in page.attributes if name == "href"]
    assert links and all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not [name for name, _ in page.attributes if name == "src"]
    assert "default-src 'none'" in html


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
