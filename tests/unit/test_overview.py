# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Overview
--------

Its screen and its warnings, of a kernel made by hand; and %vmap as drgn runs it.
"""

from dataclasses import replace
from typing import Any, Dict

import pytest
from drgn.commands import run_command

import drgn_vmap.plugin  # noqa: F401
from drgn_vmap.analyses.gaps import find_gaps
from drgn_vmap.analyses.overview import warnings
from drgn_vmap.analyses.top import reconcile, sum_areas
from drgn_vmap.commands import VERBS
from drgn_vmap.model.areas import Problem, ProblemKind, Snapshot, State
from drgn_vmap.model.blocks import BlockTotals
from drgn_vmap.model.pictures import Overview
from drgn_vmap.model.series import SeriesVerdict
from drgn_vmap.model.space import LazyPages, VmallocRange
from drgn_vmap.model.sums import PageCounter
from drgn_vmap.render.overview import overview_text
from tests.fakes.kernel import FakeKernel
from tests.fakes.snapshots import BASE, PAGE, area, snapshot_of

VM_ALLOC = 0x2
SPACE = VmallocRange(BASE, BASE + 1000 * PAGE, BASE + 1000 * PAGE - 1)
BLOCKS = BlockTotals(2, 512, 300, 300, 100, 112, 0)


def overview(**changes: Any) -> Overview:
    """A kernel with seven callers, most of whose space is free."""
    busy = [
        area(at * 10, 3, flags=VM_ALLOC, caller=at + 1, nr_pages=2) for at in range(7)
    ]
    free = [area(at * 10 + 3, 7, State.FREE) for at in range(7)]
    rows = [*busy, *free, area(70, 930, State.FREE)]
    callers = {at + 1: f"caller_{at}+0x1/0x2" for at in range(7)}
    snapshot = snapshot_of(changes.get("rows", rows), callers)
    problems = changes.get("problems", ())
    kernel = replace(snapshot.kernel, live=changes.get("live", False))
    snapshot = Snapshot(kernel, snapshot.areas, callers, problems)
    counter = PageCounter("NR_VMALLOC", changes.get("counted", 14), 0)
    lazy = LazyPages(0, changes.get("lazy_maximum", 100))
    return Overview(
        snapshot,
        find_gaps(snapshot, SPACE, lazy),
        sum_areas(snapshot, "caller"),
        reconcile(snapshot, counter),
        changes.get("blocks", BLOCKS),
        changes.get("series", SeriesVerdict.FIXED),
    )


def test_nothing_to_warn_of() -> None:
    """A healthy kernel gives no warning."""
    assert list(warnings(overview())) == []
    unused: Dict[str, Any] = {"live": True, "series": SeriesVerdict.NOT_FIXED}
    assert list(warnings(overview(**unused))) == []


FULL: Dict[str, Any] = {"rows": [area(0, 950, flags=0), area(950, 50, State.FREE)]}
RAM: Dict[str, Any] = {"rows": [area(0, 9), area(9, 991, State.FREE)], "counted": 0}
PIECES: Dict[str, Any] = {
    "rows": [area(at, 1, State.FREE if at % 2 else State.BUSY) for at in range(1000)]
}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"problems": (Problem(ProblemKind.CORRUPT, "x", "y"),)}, "1 problems"),
        ({"problems": (Problem(ProblemKind.RACING, "x", "y"),)}, "changed while"),
        ({"counted": 20}, "differ by 6 pages"),
        ({**FULL, "counted": 0}, "only 5.0% of vmalloc space"),
        ({**PIECES, "counted": 0}, "in pieces"),
        (
            {
                "rows": [area(0, 9, State.LAZY), area(9, 991, State.FREE)],
                "counted": 0,
                "lazy_maximum": 8,
            },
            "9 freed pages wait",
        ),
        ({"blocks": BlockTotals(2, 512, 0, 0, 200, 312, 0)}, "312 of 512 pages"),
        (
            {**RAM, "live": True, "series": SeriesVerdict.NOT_FIXED},
            "does not return what vm_map_ram() mapped",
        ),
    ],
)
def test_warnings(changes: Dict[str, Any], words: str) -> None:
    """Each thing that is odd is said, and alone."""
    [warning] = warnings(overview(**changes))
    assert words in warning
    assert warning.rpartition(": ")[2] in VERBS


def test_one_screen() -> None:
    """Kernel, totals, five callers and warnings fit on 24 lines of 80 columns."""
    found = overview(counted=20)
    text = overview_text(found, list(warnings(found)), list(VERBS), "vmap")
    lines = text.splitlines()
    assert len(lines) <= 24
    assert [line for line in lines if len(line) > 80 and "NR_VMALLOC" not in line] == []
    for words in ("6.12-test", "layout E", "14 pages", "caller_4+", "warning"):
        assert words in text
    assert "caller_5+" not in text


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """--help lists the verbs; an error is a line, not the end of the session."""
    prog = FakeKernel([]).program()
    run_command(prog, "vmap --help")
    out, err = capsys.readouterr()
    assert [verb for verb in VERBS if f"  {verb}" not in out] == [] and err == ""
    run_command(prog, "vmap nosuch")
    out, err = capsys.readouterr()
    assert out == "" and "no verb 'nosuch'" in err and len(err.splitlines()) == 1
    run_command(prog, "vmap top --help")
    assert "--openmetrics" in capsys.readouterr().out
    run_command(prog, "vmap top --json")
    assert '"rows"' in capsys.readouterr().out


def test_the_command_in_drgn_crash(capsys: pytest.CaptureFixture[str]) -> None:
    """There it is vmap, and says so."""
    prog = FakeKernel([]).program()
    run_command(prog, "crash vmap help")
    assert "\nvmap alone shows an overview" in capsys.readouterr().out
    run_command(prog, "vmap help")
    assert "\n%vmap alone shows an overview" in capsys.readouterr().out
    run_command(prog, "crash vmap nosuch")
    assert "no verb 'nosuch'" in capsys.readouterr().err
