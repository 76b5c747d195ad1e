# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Report
------

The HTML file: well-formed, by itself, small, and with every name in it as text.
"""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import pytest

from drgn_vmap._numpy import np
from drgn_vmap.analyses.blocks import block_totals
from drgn_vmap.analyses.describe import describe
from drgn_vmap.analyses.report import largest_rows, map_blocks, stretches
from drgn_vmap.analyses.top import sum_areas
from drgn_vmap.model.areas import VMAP_RAM, Problem, Snapshot, State
from drgn_vmap.model.inspection import Check, Failure, Verdict
from drgn_vmap.model.pictures import Report
from drgn_vmap.model.series import (
    Finding,
    Patch,
    PatchVerdict,
    SeriesVerdict,
    Strength,
    Verification,
)
from drgn_vmap.render.report import report_html
from tests.fakes.blocks import FakeBlock, blocks_of
from tests.unit.snapshots import BASE, PAGE, area, snapshot_of
from tests.unit.test_saved_text import HASHED, RAW, without_drgn

VM_ALLOC, VM_MAP = 0x2, 0x4
HOSTILE = "<script>alert(1)</script>&\"'\x1b[2J\x00+0x1/0x2 [" + "k" * 10_000 + "]"
VOID = {"meta"}


class Page(HTMLParser):
    """Checks that elements are nested, and collects what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: List[str] = []
        self.tags: Set[str] = set()
        self.attributes: List[Tuple[str, Optional[str]]] = []
        self.ids: List[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report_of(snapshot: Snapshot, **more: Any) -> Report:
    """Return a report of a snapshot alone."""
    parts: Dict[str, Any] = {
        "source": "vmcore",
        "kernel": snapshot.kernel,
        "warnings": (),
        "gaps": None,
        "pages": None,
        "tops": tuple(sum_areas(snapshot, by) for by in ("caller", "module", "kind")),
        "stretches": stretches(snapshot),
        "largest": tuple(describe(snapshot, largest_rows(snapshot, 100))),
        "blocks": None,
        "checks": None,
        "series": None,
        "problems": (),
    }
    return Report(**{**parts, **more})


def hostile_report() -> Report:
    """A report in which everything that a target names is hostile."""
    rows = [area(0, 5, flags=VM_ALLOC, caller=1, nr_pages=4)]
    snapshot = snapshot_of(rows, {1: HOSTILE}, release=HOSTILE)
    return report_of(
        snapshot,
        source=HOSTILE,
        warnings=(HOSTILE,),
        blocks=map_blocks(
            blocks_of([FakeBlock(free=100, used="##..#", mapped="##.!")])
        ),
        checks=(
            Check("id", HOSTILE, Verdict.FAILED, 3, (Failure(BASE, HOSTILE),), HOSTILE),
        ),
        series=Verification(
            (
                Patch(
                    *(6, HOSTILE, HOSTILE),
                    *(PatchVerdict.NO, Strength.STRONG, (HOSTILE,)),
                ),
            ),
            SeriesVerdict.PARTIAL,
            (Finding(HOSTILE, HOSTILE),),
        ),
        problems=(Problem(HOSTILE, HOSTILE, HOSTILE),),
    )


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
