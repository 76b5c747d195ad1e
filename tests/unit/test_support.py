# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
docs/support.md says what tests of the lab showed of the lab's kernels, and is written from
what pytest itself recorded.
"""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path

from tests.lab.kernel import Kernel
from tests.lab.kernels import ALL_KERNELS, FOREIGN_KERNELS, KERNELS
from tests.lab.other_machines import MACHINES
from tests.lab.sh_kernel import SH_KERNELS, ShKernel
from tests.lab.support import (
    INTRODUCTION,
    PAGE,
    Shown,
    page,
    read_page,
    read_records,
)
from tests.sources import ROOT, tree_of

ELF = Shown("6.1", "6.1.0-9-amd64", "amd64", "ELF", "DWARF")
BTF = ELF._replace(symbols="BTF")
KDUMP = ELF._replace(source="kdump")
FOREIGN = Shown("6.1-s390x", "6.1.0-9-s390x", "s390x", "slice", "DWARF")

TABLE = """\
| kernel | release | architecture | live | ELF | kdump | QMP | slice | text |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
NO = "not tested"
ROWS = f"""\
| 6.1 | 6.1.0-9-amd64 | amd64 | {NO} | DWARF, BTF | {NO} | {NO} | {NO} | {NO} |
| 6.1-s390x | 6.1.0-9-s390x | s390x | {NO} | {NO} | {NO} | {NO} | DWARF | {NO} |
"""

#: A test file as they are in the lab, each of whose tests ends in another way.
TESTS = """
import pytest
from tests.lab.architecture import AMD64
from tests.lab.kernel import Kernel
from tests.lab.support import record, shows

class Known(Kernel):
    directory = files = module_tree = names_itself = None
    release = "6.1.0-9-amd64"

@pytest.fixture(autouse=True)
def recorded(request):
    yield
    record(request.node, Known("6.1", AMD64))

@pytest.fixture
def broken():
    raise OSError

ends = {
    "passes": lambda: None,
    "fails": lambda: 1 / 0,
    "skips": lambda: pytest.skip("it has to"),
}
"""
TEST = """
@shows("{shown.source}", "{shown.symbols}")
def test_{number}({fixture}):
    ends["{end}"]()
"""


def record(directory: Path, *cases: tuple[Shown, str]) -> Path:
    """Let pytest run a test of each case, which shows something and ends so."""
    text = TESTS
    for number, (shown, end) in enumerate(cases):
        fixture = "broken" if end == "breaks" else ""
        text += TEST.format(shown=shown, number=number, fixture=fixture, end=end)
    directory.mkdir()
    (directory / "test_it.py").write_text(text)
    path = directory / "record.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "setup.cfg"), "--rootdir", str(directory)]
    command += ["--junitxml", str(path), str(directory / "test_it.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    failing = any(end in ("fails", "breaks") for _, end in cases)
    assert done.returncode == int(failing), done.stdout
    return path


def test_what_passed_was_shown(tmp_path: Path) -> None:
    """What passed in any of some runs counts."""
    first = record(tmp_path / "a", (ELF, "passes"), (ELF, "passes"))
    second = record(tmp_path / "b", (BTF, "passes"))
    assert read_records([first, second]) == {ELF, BTF}


def test_what_failed_is_not_tested(tmp_path: Path) -> None:
    """One test that failed, broke or was skipped outweighs those that passed."""
    ends = {BTF: "fails", ELF: "skips", ELF._replace(source="QMP"): "breaks"}
    cases = [*zip(ends, itertools.repeat("passes")), *ends.items(), (KDUMP, "passes")]
    assert read_records([record(tmp_path / "record", *cases)]) == {KDUMP}


def test_table() -> None:
    """Each kernel has a row, cell by cell; it can be read again."""
    text = INTRODUCTION + "\n" + TABLE + ROWS
    assert page([FOREIGN, BTF, ELF]) == text
    assert read_page(text) == {ELF, BTF, FOREIGN}


def test_order() -> None:
    """This architecture comes first, and older kernels before newer ones."""
    names = ["5.10", "6.1", "6.1-fixed", "6.12", "7.3"]
    shown = {ELF._replace(kernel=name) for name in names}
    lines = page({*shown, FOREIGN}).splitlines()[-6:]
    assert [line.split(" ")[1] for line in lines] == [*names, "6.1-s390x"]


def test_order_of_releases() -> None:
    """One kernel that was tested as more than one release has a row of each, in one order."""
    releases = ["6.1.0-9-amd64", "6.1.0-56-amd64", "6.1.0-56-cloud-amd64"]
    shown = [ELF._replace(release=release) for release in releases]
    for order in itertools.permutations(shown):
        lines = page(order).splitlines()[-3:]
        assert [line.split(" ")[3] for line in lines] == releases


def marks() -> set[tuple[str, str]]:
    """Return the sources and symbols that tests of the lab say they show."""
    found: set[tuple[str, str]] = set()
    for path in (ROOT / "tests/lab").glob("test_*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "shows":
                source, symbols = (getattr(one, "value", "tested") for one in node.args)
                sources = ("ELF", "kdump") if source is None else (source,)
                names = ("DWARF", "BTF") if symbols is None else (symbols,)
                found.update(itertools.product(sources, names))
    return found


def test_the_page_is_of_the_lab() -> None:
    """
    Its kernels are the lab's, and what it names of them a test says that it shows; nobody
    changed it by hand.
    """
    text = PAGE.read_text(encoding="utf-8")
    assert page(read_page(text)) == text
    assert text.startswith(INTRODUCTION + "\n" + TABLE)
    kernels: dict[str, Kernel | ShKernel]
    kernels = {**ALL_KERNELS, **FOREIGN_KERNELS, **SH_KERNELS}
    shown: set[tuple[str, str, str]] = set()
    known = marks()
    for line in text[len(INTRODUCTION + "\n" + TABLE) :].splitlines():
        title, release, architecture, *cells = line.strip("| ").split(" | ")
        name, _, machine = title.partition(", ")
        assert machine in ("", *MACHINES), line
        assert release.startswith(f"{name.partition('-')[0]}."), line
        assert kernels[name].debian_architecture == architecture, line
        for source, cell in zip(
            ("live", "ELF", "kdump", "QMP", "slice", "text"), cells
        ):
            symbols = [] if cell == NO else cell.split(", ")
            assert {(source, one) for one in symbols} <= known, line
            shown.update((name, source, one) for one in symbols)
        assert cells != [NO] * len(cells) and len(cells) == 6, line
    of_debian = {
        (source, symbols) for name, source, symbols in shown if name in KERNELS
    }
    assert {(source, symbols) for _, source, symbols in shown} == known
    # A slice of a kernel that carries all it needs is opened without debug information.
    assert of_debian == known - {("slice", "DWARF")}
    assert {name for name, _, _ in shown} >= {*KERNELS}
