# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a person at a terminal sees: its width, colours, what was written, what matched.
"""

import io
import re
import sys
from pathlib import Path
from typing import List

import pytest

from drgn_vmap.commands import run
from drgn_vmap.commands.common import warn_of_problems, write_text
from drgn_vmap.model.areas import Problem, ProblemKind
from drgn_vmap.render.colour import coloured
from drgn_vmap.render.sizes import counted
from tests.fakes.kernel import VMALLOC_START, FakeArea, FakeKernel
from tests.sources import ROOT

TEXT = str(ROOT / "docs/samples/after")
BAD = "failed      area-lists: lists\n\nwarning        look: top\n"


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "text, parts",
    [
        ("failed      x: y\nok          x\n", ["failed"]),
        ("1  no              title\n2  yes             title\n", ["1  no"]),
        ("verdict not-fixed: of\n", ["verdict not-fixed"]),
        ("verdict fixed: of\n", []),
        ("vmap_block  wrong       bytes\nvmalloc     equal\n", ["vmap_block  wrong"]),
        ("warning        none\n", []),
        ("warning        look\n", ["warning"]),
        ("finding vmap-block-reader unknown\n", ["finding vmap-block-reader"]),
        ("0xffff-0xffff  failed nosuch+0x1 warning\n", []),
    ],
)
def test_colour(text: str, parts: List[str]) -> None:
    """What failed or warns has one, and nothing else; without, the text is the same."""
    found = coloured(text)
    assert re.findall("\033\\[3[13]m(.*?)\033\\[0m", found) == parts
    assert re.sub("\033\\[[0-9]+m", "", found) == text


@pytest.mark.parametrize(
    "name, value, has",
    [("TERM", "xterm", True), ("TERM", "dumb", False)]
    + [("NO_COLOR", "1", False), ("NO_COLOR", "", True)],
)
def test_who_wants_colour(
    name: str, value: str, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terminals do, unless the environment says no; pipes never do."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(name, value)
    for stream, wants in ((Terminal(), has), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stdout", stream)
        write_text(BAD)
        assert ("\033[" in stream.getvalue()) == wants


@pytest.mark.parametrize("argv", [["--caller", "nosuch*"], ["--kind", "user"]])
def test_no_match(argv: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A filter that leaves nothing is named; without filters there is just nothing."""
    prog = FakeKernel([FakeArea(VMALLOC_START, 2, 2)]).program()
    assert run("ls", prog, argv) == 0
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and f"matches {argv[0]}:" in err
    assert run("ls", FakeKernel([]).program(), []) == 0
    assert capsys.readouterr() == ("", "")


def test_first_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """-n N lists the first N, as sorted."""
    sizes = [2, 5, 3]
    areas = [
        FakeArea(VMALLOC_START + at * (1 << 20), n, 2) for at, n in enumerate(sizes)
    ]
    assert run("ls", FakeKernel(areas).program(), ["-n", "2", "--sort", "size"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[1]) // 4096 for line in lines] == [5, 3]


@pytest.mark.parametrize("at_terminal", [False, True])
def test_what_was_written(
    at_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person is told; a log is not filled."""
    stream = Terminal() if at_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    path = tmp_path / "report.html"
    assert run("report", None, ["--from", TEXT, "-o", str(path)]) == 0
    told = f"vmap report: {path} is written, "
    assert stream.getvalue().startswith(told) if at_terminal else not stream.getvalue()


def test_more_problems(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the rest of many problems can be read is a verb that has it."""
    problems = [Problem(ProblemKind.CORRUPT, str(n), "x") for n in range(11)]
    for verb, where in (("ls", "see --json"), ("slice", "see --json of vmap ls")):
        warn_of_problems(verb, problems)
        assert capsys.readouterr().err.endswith(f"… and 1 more, {where}\n")


def test_counted() -> None:
    """One is no number of many."""
    assert (counted(0, "area"), counted(1, "area")) == ("0 areas", "1 area")
