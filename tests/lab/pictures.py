# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What the pictures in docs/pictures show: a report on a desk and on a phone, light and dark,
and a terminal that is wide or narrow; of a sample, and always of the same day.
"""

from __future__ import annotations

import html
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator, NamedTuple
from unittest.mock import patch

from drgn_vmap.commands.command_line import run_command
from tests.samples import samples

from .browser import Browser, opened_browser

__all__ = ("PICTURES", "View", "take_pictures", "views")

PICTURES = Path(__file__).parents[2] / "docs/pictures"
SAMPLE = "6.1"
"""A kernel that something is to be said of."""
DAY = 1_795_867_200.0
TYPED = (("-c", "vmcore"), ("verify", "-c", "vmcore"))
"""Arguments of vmap."""
SGR = re.compile(r"\x1b\[(\d+)m")
#: Of a terminal's text: as it is, and where it is red or yellow.
COLOURS = {
    False: ("#ffffff", "#1b1f24", {"31": "#b3261e", "33": "#8a5a00"}),
    True: ("#14171b", "#e3e6ea", {"31": "#ff8a80", "33": "#e0c040"}),
}


class View(NamedTuple):
    """One picture."""

    name: str
    page: Path
    width: int
    height: int
    dark: bool
    section: str = ""
    """What of the page is to be seen; its top if this is empty."""

    def open(self, browser: Browser, script: bool = True) -> None:
        """Let it be seen."""
        browser.open(self.page, self.width, self.height, self.dark, script)
        if self.section:
            found = f"document.getElementById({self.section!r})"
            browser.evaluate(f"{found}.scrollIntoView()")


def views(directory: Path) -> Iterator[View]:
    """Yield all of them; their pages are made in a directory."""
    [sample] = [one for one in samples() if one.name == SAMPLE]
    vmcore, report = sample.unpack(directory / "vmcore"), directory / "report.html"
    with patch("time.time", return_value=DAY):
        assert run_command(["report", "-c", str(vmcore), "-o", str(report)]) == 0
    for width, height in ((1280, 760), (400, 800)):
        yield View(f"report-{width}-light", report, width, height, False)
        yield View(f"report-{width}-dark", report, width, height, True, "map")
    for columns, dark in ((80, True), (60, False)):
        page = directory / f"terminal-{columns}.html"
        text = "".join(_typed(words, columns, directory) for words in TYPED)
        lines = text.splitlines()[:40]
        page.write_text(_terminal("\n".join(lines), dark), encoding="utf-8")
        width = columns * 8 + 32
        yield View(f"terminal-{columns}", page, width, len(lines) * 17 + 32, dark)


def take_pictures(directory: Path) -> None:
    """Write all of them to a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="pictures-") as name:
        with opened_browser(Path(name, "profile")) as browser:
            for view in views(Path(name)):
                view.open(browser)
                (directory / f"{view.name}.png").write_bytes(browser.picture())


def _typed(words: tuple[str, ...], columns: int, directory: Path) -> str:
    """Return what a terminal shows of a command."""
    command = [sys.executable, "-m", "drgn_vmap", *words]
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    env["PYTHONPATH"] = str(PICTURES.parents[1])
    env.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, env=env, cwd=directory) as process:
        os.close(theirs)
        shown = bytearray()
        try:
            while part := os.read(ours, 1 << 16):
                shown += part
        except OSError:
            pass  # The other side was closed.
        os.close(ours)
    assert process.returncode in (0, 1)
    return f"$ vmap {' '.join(words)}\n{shown.decode()}\n"


def _terminal(text: str, dark: bool) -> str:
    """Return a page that looks like a terminal with some text."""
    back, front, colours = COLOURS[dark]

    def coloured(found: re.Match[str]) -> str:
        if found[1] == "0":
            return "</span>"
        return f'<span style="color: {colours[found[1]]}">'

    shown = SGR.sub(coloured, html.escape(text))
    style = f"background: {back}; color: {front}; margin: 16px;"
    font = "font: 13px/17px monospace; white-space: pre-wrap"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<title>vmap</title></head><body style="{style}"><main>'
        f'<pre style="margin: 0; {font}">{shown}</pre></main></body></html>'
    )
