# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap report` in a real browser, on a desk and at the width of a phone, light and dark, with
script and without; and the pictures of docs/.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any, Iterator

import pytest

from drgn_vmap.render.report import report_html
from tests.fakes.reports import HOSTILE, hostile_report
from tests.sources import ROOT

from .browser import PROGRAM, Browser, opened_browser
from .pictures import PICTURES, View, views

DESK, PAPER, PHONE, HEIGHT = 1280, 718, 400, 900
PICTURE_BYTES = 150_000

#: What the browser made of a page.
MEASURED = """({
  width: document.documentElement.scrollWidth,
  scripts: document.scripts.length,
  names: document.body.innerText.split("alert(1)").length - 1,
  loads: performance.getEntriesByType("resource").length,
  drawn: [...document.querySelectorAll("details:not(.enlarged) path")].filter(
    one => one.getBoundingClientRect().width > 0).length,
  nowhere: [...document.querySelectorAll("a")].map(one => one.getAttribute("href"))
    .filter(to => to[0] != "#" || !document.getElementById(to.slice(1))),
})"""
#: It runs all of its rules; what people can't use has a name and a place.
AXE = """axe.run().then(found => found.violations.map(
  one => [one.id, one.nodes[0].html]))"""
#: What printing makes of it.
ON_PAPER = """({
  drawings: document.querySelectorAll(".drawn").length,
  cut: [...document.querySelectorAll("*")].filter(
    one => getComputedStyle(one).overflowX != "visible"
      && one.scrollWidth > one.clientWidth).length
    + (document.documentElement.scrollWidth > innerWidth),
  heads: [...new Set([...document.querySelectorAll("th")].map(
    one => getComputedStyle(one).display))],
  nav: getComputedStyle(document.querySelector("nav")).display,
  back: getComputedStyle(document.body).backgroundColor,
})"""
FIRST_CELLS = """[...document.querySelectorAll("#by-caller tbody tr")].map(
  row => row.cells[{column}].textContent)"""
SHOWN = """[...document.querySelectorAll("tbody tr")].filter(
  row => row.checkVisibility()).map(row => row.innerText)"""


@pytest.fixture(scope="module")
def browser(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser; a machine without it skips, unless the lab is a must."""
    if not shutil.which(PROGRAM):
        if "lab" in os.environ.get("VMAP_REQUIRE", "").split(","):
            pytest.fail(f"VMAP_REQUIRE=lab, but {PROGRAM} is not installed")
        pytest.skip(f"not installed: {PROGRAM}")
    with opened_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[View]:
    """The pages of the pictures: a report and a terminal."""
    return list(views(tmp_path_factory.mktemp("views")))


def report_of(shown: list[View]) -> Path:
    """Return the report of the sample."""
    return shown[0].page


def axe(browser: Browser) -> Any:
    """Return what people can't use of the page, with its place."""
    source = files("axe_core_python") / "axe.min.js"
    browser.evaluate(source.read_text(encoding="utf-8"))
    return browser.evaluate(AXE)


def test_pictures(browser: Browser, shown: list[View]) -> None:
    """
    Each page fits, loads nothing, and its links lead somewhere; everybody can use a report.
    docs/ has a picture of each, of that width, and no other: `make pictures` takes them.
    """
    for view in shown:
        view.open(browser)
        found = browser.evaluate(MEASURED)
        assert (found["width"], found["loads"]) == (view.width, 0), view
        assert found["nowhere"] == [], view
        if view.page == report_of(shown):
            assert axe(browser) == [], view
        assert len(browser.picture()) < PICTURE_BYTES, view
        picture = (PICTURES / f"{view.name}.png").read_bytes()
        # The first chunk of PNG begins with the width.
        assert struct.unpack(">I", picture[16:20]) == (view.width,), view
    names = {path.stem for path in PICTURES.iterdir()}
    assert names == {view.name for view in shown}
    pages = "".join(path.read_text() for path in ROOT.glob("docs/*.md"))
    assert names == set(re.findall(r"\]\(pictures/([^)]+)\.png\)", pages))


def test_light_and_dark(browser: Browser, shown: list[View]) -> None:
    """A report is drawn, and follows its reader."""
    for dark, colour in ((False, "rgb(255, 255, 255)"), (True, "rgb(20, 23, 27)")):
        browser.open(report_of(shown), DESK, HEIGHT, dark)
        back = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back, browser.evaluate(MEASURED)["drawn"] >= 10) == (colour, True)


def test_on_paper(browser: Browser, shown: list[View]) -> None:
    """Nothing is cut off that a reader of paper cannot scroll to; tables are tables."""
    browser.open(report_of(shown), PAPER, HEIGHT, dark=True, media="print")
    shape = browser.evaluate(ON_PAPER)
    assert shape.pop("drawings") > 1
    white = "rgb(255, 255, 255)"
    assert shape == {"cut": 0, "heads": ["table-cell"], "nav": "none", "back": white}


def test_a_link_enlarges(browser: Browser, shown: list[View]) -> None:
    """A row of the drawing is closed until a link leads to it; no script is needed."""
    part = "document.querySelector('.enlarged > div')"
    is_open = f"{part}.parentElement.open"
    browser.open(report_of(shown), DESK, HEIGHT, script=False)
    assert browser.evaluate(is_open) is False
    browser.evaluate(f"location.hash = {part}.id")
    assert browser.evaluate(is_open) is True


def test_without_script(browser: Browser, shown: list[View]) -> None:
    """All of it is there, and nothing that would do nothing."""
    browser.open(report_of(shown), DESK, HEIGHT)
    rows = browser.evaluate(SHOWN)
    assert browser.evaluate("document.querySelectorAll('button, input').length") > 20
    browser.open(report_of(shown), DESK, HEIGHT, script=False)
    assert browser.evaluate(SHOWN) == rows and len(rows) > 100
    assert browser.evaluate("document.querySelectorAll('button, input').length") == 0


def test_sorting(browser: Browser, shown: list[View]) -> None:
    """A column's head sorts by it: numbers from the largest, names from the first."""

    def sorted_by(column: int) -> Any:
        heads = "document.querySelectorAll('#by-caller th button')"
        browser.evaluate(f"{heads}[{column}].click()")
        return browser.evaluate(FIRST_CELLS.replace("{column}", str(column)))

    browser.open(report_of(shown), DESK, HEIGHT)
    # What sums up the callers that are not shown stays the last row, and has no count.
    *counts, rest = sorted_by(0)
    assert counts == sorted(counts, key=int, reverse=True) and len(set(counts)) > 5
    assert rest == "" or rest in counts
    *counts, _ = sorted_by(0)
    assert counts[0] == "1"
    *names, _ = sorted_by(4)
    assert names == sorted(names)
    *sizes, _ = sorted_by(1)
    units = [size.split()[1] for size in sizes]
    assert units == sorted(units, key="TGMK".find) and {"MiB", "KiB"} == set(units)


def test_searching(browser: Browser, shown: list[View]) -> None:
    """Rows that have the words stay; of an address, those whose area it is in."""
    browser.open(report_of(shown), PHONE, HEIGHT)
    first = browser.evaluate("document.querySelector('#blocks tbody a').textContent")
    inside = hex(int(first.partition("-")[0], 16) + 0x1234)
    for words in ("map_vmalloc_huge", inside):
        browser.evaluate("document.querySelector('input').value = ''")
        browser.evaluate("document.querySelector('input').focus()")
        browser.type(words)
        rows = browser.evaluate(SHOWN)
        assert rows and all(words in row or first in row for row in rows)
        said = browser.evaluate("document.querySelector('output').textContent")
        assert said.startswith(f"{len(rows)} of ")


def test_hostile_names(browser: Browser, tmp_path: Path) -> None:
    """Names that a target made up are text: none runs, none spreads beyond the page."""
    assert HOSTILE.startswith("<script>alert(1)</script>")
    page = tmp_path / "hostile.html"
    page.write_text(report_html(hostile_report()), encoding="utf-8")
    browser.open(page, PHONE, HEIGHT)
    found = browser.evaluate(MEASURED)
    assert found["names"] >= 10
    assert (found["scripts"], found["loads"]) == (1, 0)
    assert (found["width"], found["nowhere"]) == (PHONE, [])
