# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Pages
-----

The output on them is what the commands print; links lead somewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.pages import ELIDED, Shown, shown_commands
from tests.sources import ROOT


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether lines are the same, but for those that were elided."""
    if not shown or not printed:
        return all(line == ELIDED for line in shown) and not (printed and not shown)
    if shown[0] == ELIDED:
        return any(matches(shown[1:], printed[at:]) for at in range(len(printed) + 1))
    return shown[0] == printed[0] and matches(shown[1:], printed[1:])


@pytest.mark.parametrize("shown", shown_commands("python3"), ids=str)
def test_output(shown: Shown) -> None:
    """A command without a kernel prints what its page says, to the character."""
    command = [sys.executable, *shown.words[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    assert matches(shown.lines, done.stdout.splitlines()), done.stdout


def test_there_are_such_commands() -> None:
    """Nothing is tested by having nothing to test."""
    assert len(shown_commands("python3")) >= 5
    assert len(shown_commands("drgn")) >= 8


def test_lines_are_compared() -> None:
    """A line that differs, is missing or is too many is seen."""
    assert matches(["a", ELIDED, "d"], ["a", "b", "c", "d"])
    assert matches(["a", ELIDED], ["a"])
    for printed in (["a"], ["a", "c"], ["a", "b", "c"], []):
        assert not matches(["a", "b"], printed)


def test_links() -> None:
    """Each relative link of README, docs and contrib names a file that is there."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pages += (ROOT / "contrib").rglob("*.md")
    dead = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert dead == []
