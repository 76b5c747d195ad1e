# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap report` in a real browser, on a desk and at the width of a phone, light and dark.

A copy of the file gets a script that measures what the browser made of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from drgn_vmap.render.report import report_html
from tests.fakes.reports import HOSTILE, hostile_report
from tests.pages import DEFAULT_KERNEL
from tests.running import run_on

from .vmcore import Vmcore

BROWSER = "chromium"
DESK, PHONE = 1280, 500  # Chromium makes no narrower window.
DARK = "--blink-settings=preferredColorScheme=0"
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
)

#: What is measured; the browser prints the document with this in its title.
PROBE = """<script>addEventListener("load", () => setTimeout(() => {
  const part = document.querySelector(".enlarged > div");
  const before = part && part.parentElement.open;
  if (part) location.hash = part.id;
  setTimeout(() => { document.title = JSON.stringify({
    width: document.documentElement.scrollWidth,
    back: getComputedStyle(document.body).backgroundColor,
    scripts: document.scripts.length,
    text: document.body.innerText.length,
    names: document.body.innerText.split("alert(1)").length - 1,
    loads: performance.getEntriesByType("resource").length,
    drawn: [...document.querySelectorAll("details:not(.enlarged) path")].filter(
      one => one.getBoundingClientRect().width > 0).length,
    enlarged: [before, part && part.parentElement.open],
  }) }, 100) }, 0))</script>"""


@pytest.fixture(scope="session")
def browser(lab: None) -> str:
    """The browser's program; a machine without it skips, unless the lab is a must."""
    program = shutil.which(BROWSER)
    if program:
        return program
    if "lab" in os.environ.get("VMAP_REQUIRE", "").split(","):
        pytest.fail(f"VMAP_REQUIRE=lab, but {BROWSER} is not installed")
    pytest.skip(f"not installed: {BROWSER}")


def look(browser: str, html: str, directory: Path, width: int, *options: str) -> Any:
    """Open a report and return what the probe measured."""
    policy = re.compile('<meta http-equiv="Content-Security-Policy"[^>]*>')
    probed, replaced = policy.subn(PROBE, html)
    assert replaced == 1
    page = directory / "probed.html"
    page.write_text(probed, encoding="utf-8")
    profile = f"--user-data-dir={directory}/profile"
    command = [browser, *OPTIONS, *options, profile, f"--window-size={width},900"]
    command += ["--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    found = re.search(r"<title>(\{.*?\})</title>", done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return json.loads(found[1])


@pytest.mark.kernels(DEFAULT_KERNEL)
def test_report_of_a_vmcore(
    browser: str, vmcores: dict[str, Vmcore], tmp_path: Path
) -> None:
    """It is drawn, fits, follows light and dark, and enlarges what a link leads to."""
    vmcore = vmcores["elf"]
    output = tmp_path / "report.html"
    run_on(vmcore, "scripts/vmap_report.py", "-o", output)
    html = output.read_text(encoding="utf-8")
    desk = look(browser, html, tmp_path, DESK)
    assert desk["drawn"] >= 10 and desk["text"] > 2000
    assert desk["enlarged"] == [False, True]
    assert (desk["width"], desk["back"]) == (DESK, "rgb(255, 255, 255)")
    phone = look(browser, html, tmp_path, PHONE, DARK)
    assert (phone["width"], phone["back"]) == (PHONE, "rgb(20, 23, 27)")
    # The probe itself is the only script, and nothing was loaded.
    assert {(one["scripts"], one["loads"]) for one in (desk, phone)} == {(1, 0)}


def test_hostile_names(browser: str, tmp_path: Path) -> None:
    """Names that a target made up are text: none runs, none spreads beyond the page."""
    assert HOSTILE.startswith("<script>alert(1)</script>")
    found = look(browser, report_html(hostile_report()), tmp_path, PHONE)
    assert found["names"] >= 10
    assert (found["scripts"], found["loads"]) == (1, 0)
    assert found["width"] == PHONE
