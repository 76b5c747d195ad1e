# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Copies of /proc/vmallocinfo
---------------------------

Lines as kernels of each generation print them, lines that are none, and the commands
that take such a file, in a Python without drgn.
"""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drgn_vmap._numpy import np
from drgn_vmap.analyses.saved_text import areas_from_text, describe_saved
from drgn_vmap.errors import UsageError
from drgn_vmap.model.areas import Area, ProblemKind
from drgn_vmap.model.saved import SavedText
from drgn_vmap.render.pointers import pointer_format
from drgn_vmap.render.proc import proc_lines
from tests.fakes.vmallocinfo import BITS_32, EARLY, HASHED, RAW, ZERO
from tests.running import without_drgn
from tests.sources import ROOT


def areas(text: str) -> List[Area]:
    """Return the areas of a file that has no line that doesn't fit."""
    saved = areas_from_text("file", text)
    assert saved.snapshot.problems == ()
    return list(describe_saved(saved))


@pytest.mark.parametrize(
    "text, pointers",
    [
        (RAW, "raw"),
        (HASHED, "hashed"),
        (ZERO, "none"),
        (EARLY, "none"),
        (BITS_32, "raw"),
    ],
)
def test_every_line_is_understood(text: str, pointers: str) -> None:
    """As many areas as lines, of the sizes that the lines name."""
    saved = areas_from_text("file", text)
    assert (saved.snapshot.problems, saved.pointers) == ((), pointers)
    assert "".join(f"{line}\n" for line in saved.lines) == text
    sizes = [int(line.split()[1]) for line in text.splitlines()]
    assert [area.size for area in describe_saved(saved)] == sizes


def test_fields() -> None:
    """Each word of a line is in the field it belongs to, on the line's own area."""
    found = areas(RAW)
    assert [area.caller and area.caller.split("+")[0] for area in found] == [
        "irq_init_percpu_irqstack",
        "acpi_os_map_iomem",
        "gen_pool_add_owner",
        "nft_init",
        "arena_map_alloc",
        "0xffffffffc020914d",
        "dma_common",
        None,
        None,
        None,
    ]
    assert [area.kinds for area in found] == [
        ("vmap",),
        ("ioremap",),
        ("vmalloc",),
        ("vmalloc", "user"),
        ("sparse",),
        ("vmalloc",),
        ("vmap", "dma-coherent"),
        ("vmap",),
        ("vm_map_ram",),
        ("unpurged",),
    ]
    assert (found[1].phys, found[1].pages) == (0x3FFE1000, None)
    assert (found[3].pages, found[3].numa) == (513, {0: 500, 12: 13})
    assert found[3].caller == "nft_init+0x19/0x30 [nf_tables]"
    assert {area.vm_flags for area in found} == {None}


def test_the_other_printer_prints_the_same() -> None:
    """What prints areas of a kernel, from numbers alone, agrees with the kernel."""
    saved = areas_from_text("file", RAW)
    rows, pointers = np.arange(len(saved.lines)), pointer_format("raw", 8, None)
    assert "".join(proc_lines(saved.snapshot, rows, pointers)) == RAW


@pytest.mark.parametrize(
    "line",
    [
        "0xffffc90000000000-0xffffc90000005000   20480",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 pages=4",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x2/0x2 vmap",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 vma",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 pages=3 vmalloc N0=4",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 pages=2 vmalloc N0=2 N",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 pages=6 vmalloc N0=6",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 pages=4 vmap",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 phys=0xfed00000 ioremap",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 phys=fed00000 ioremap",
        "0xfffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 vmap",
        "xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 vmap",
        "0xffffc90000000000-0xffffc9",
        "> 0xff",
        "0(____ptrval____)-0x(____ptrval____)   20480 0xffffffffc020914d vmap",
        "0xffffc90000000000-0xffffc90000005000   20481 x+0x1/0x2 vmap",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 vmap vmalloc",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 pages=04 vmalloc",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 pages=0 vmalloc",
        "0xffffc90000000000-0xffffc90000005000   20480 some words vmalloc",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 vmalloc N0=1 pages=1",
        "0xffffc90000000000-0xffffc90000005000   20480 x+0x1/0x2 vmalloc N1024=1",
        "0xffffc90000000000-0xffffc900           20480 x+0x1/0x2 vmalloc",
        "0xffffffffffffe000-0x0000000000001000   12288 x+0x1/0x2 vmalloc",
        "0xffffc90000000000-0xffffc90000000000       0 x+0x1/0x2 vmalloc",
    ],
)
def test_a_line_that_does_not_fit_is_named(line: str) -> None:
    """It makes no area, and changes none of its neighbours."""
    first, *rest = RAW.splitlines(keepends=True)
    saved = areas_from_text("the file", "".join([first, line + "\n", *rest]))
    [problem] = [one for one in saved.snapshot.problems if one.is_failure]
    assert (problem.what, problem.where) == (
        ProblemKind.NOT_UNDERSTOOD,
        "the file, line 2",
    )
    assert list(describe_saved(saved)) == areas(RAW)
    assert saved.left_out == 1


@pytest.mark.parametrize("counts", [" N0=3", ""], ids=["too few", "none"])
def test_counts_that_do_not_add_up(counts: str) -> None:
    """
    They race in the kernel, which has none before an area is set up, so the line counts;
    its nodes are not believed.
    """
    line = "0xffffc90000600000-0xffffc90000605000   20480 x+0x1/0x2 pages=4 vmalloc"
    line += counts
    saved = areas_from_text("file", f"{RAW}{line}\n")
    [problem] = saved.snapshot.problems
    assert (problem.what, problem.is_failure) == (ProblemKind.RACING, False)
    *_, area = describe_saved(saved)
    assert (area.pages, area.numa) == (4, None)


@pytest.mark.parametrize("text", ["", "\n", "{}\n", "START END SIZE\n", "\0" * 100])
def test_no_copy_at_all(text: str) -> None:
    """A file without any such line is refused."""
    with pytest.raises(UsageError, match="vmallocinfo"):
        areas_from_text("file", text)


@settings(deadline=None)
@given(st.data())
def test_any_change_is_seen_or_understood(data: st.DataObject) -> None:
    """A few characters changed: no crash, and what is understood prints back."""
    text = list(data.draw(st.sampled_from([RAW, HASHED, ZERO, EARLY])))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text) - 1))
        new = data.draw(st.text("0x19af-+/= N[]()\n\0é\x1b", max_size=3))
        text[at : at + data.draw(st.integers(0, 3))] = new
    whole = "".join(text)
    try:
        saved = areas_from_text("file", whole)
    except UsageError:
        return
    expect_lines(saved, whole)


def expect_lines(saved: SavedText, text: str) -> None:
    """Each line is either understood as it is or named."""
    whole = re.sub(r"\s+", "", text)
    for line in saved.lines:
        assert re.sub(r"\s+", "", line) in whole
    assert len(list(describe_saved(saved))) == len(saved.lines)


@pytest.fixture
def raw(tmp_path: Path) -> str:
    """A file with real addresses."""
    path = tmp_path / "vmallocinfo"
    path.write_text(RAW)
    return str(path)


@pytest.fixture
def hashed(tmp_path: Path) -> str:
    """A file with hashed addresses."""
    path = tmp_path / "hashed"
    path.write_text(HASHED)
    return str(path)


def test_ls(raw: str) -> None:
    """The file comes back unchanged, or the part that was asked for."""
    done = without_drgn("ls", "--from", raw)
    assert (done.returncode, done.stdout, done.stderr) == (0, RAW, "")
    done = without_drgn("ls", "--from", raw, "--caller", "nft_*", "--kind", "user")
    assert done.stdout == RAW.splitlines(keepends=True)[3]


def test_ls_json(hashed: str) -> None:
    """It says what the addresses are, and claims to know no kernel."""
    done = without_drgn("ls", "--from", hashed, "--json")
    document = json.loads(done.stdout)
    assert (document["kernel"], document["pointers"]) == (None, "hashed")
    assert [area["size"] for area in document["areas"]] == [20480, 20480, 266240]
    assert "caller_addr" not in document["areas"][0]


@pytest.mark.parametrize(
    "options", [("--range", "0-1"), ("--sort", "address"), ("--all",)]
)
def test_ls_of_what_is_not_there(hashed: str, options: List[str]) -> None:
    """Hashed addresses have no order, and other states are not in the file."""
    done = without_drgn("ls", "--from", hashed, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_a_bad_line(raw: str) -> None:
    """It is named on standard error, and the exit status tells."""
    with open(raw, "a") as file:
        file.write("0x1-0x2\x1b[2J\n")
    done = without_drgn("ls", "--from", raw)
    assert (done.returncode, done.stdout) == (1, RAW)
    assert "line 11" in done.stderr and "\x1b" not in done.stderr


def test_top(hashed: str) -> None:
    """Sums need no addresses."""
    done = without_drgn("top", "--from", hashed, "--json")
    rows = json.loads(done.stdout)["rows"]
    assert [(row["key"], row["areas"], row["bytes"], row["pages"]) for row in rows] == [
        ("vm_map_ram", 1, 266240, 0),
        ("kernel_clone+0x9c/0x430", 2, 40960, 8),
    ]


@pytest.mark.parametrize("script", ["ls", "top", "report"])
def test_neither_kernel_nor_file(script: str) -> None:
    """Plain Python without --from says what to do."""
    done = without_drgn(script, *(["-o", "x"] if script == "report" else []))
    assert (done.returncode, done.stdout) == (2, "")
    assert "--from FILE" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_package_is_missing() -> None:
    """Without what it depends on, a script names the package."""
    done = without_drgn("blocks")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "vmap blocks: the Python package drgn is not installed"
    )


@pytest.mark.parametrize(
    "script, options", [("ls", ["--format", "table"]), ("top", [])]
)
def test_tables_fit_the_terminal(script: str, options: List[str], raw: str) -> None:
    """On a terminal of 50 columns, no line is longer; elsewhere nothing is cut."""
    path = str(ROOT / "scripts" / f"vmap_{script}.py")
    command = [sys.executable, path, "--from", raw, *options]
    mine, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "50"}
    subprocess.run(command, stdout=theirs, env=environment, check=True)
    lines = os.read(mine, 1 << 16).decode().splitlines()
    os.close(mine)
    os.close(theirs)
    assert max(map(len, lines)) == 50 and any(line.endswith("…") for line in lines)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert max(map(len, done.stdout.splitlines())) > 50


def test_diff(tmp_path: Path, hashed: str) -> None:
    """One stack more, by its hash, or by size and caller if there are no addresses."""
    line = "-0x0000000000000000   20480 kernel_clone+0x9c/0x430 pages=4 vmalloc N0=4\n"
    newer, bare = tmp_path / "newer", tmp_path / "bare"
    newer.write_text(HASHED + f"0x0000000012345678{line}")
    bare.write_text(re.sub(r"0x[0-9a-f]{16}", f"0x{0:016x}", newer.read_text()))
    for new in (newer, bare):
        done = without_drgn("diff", "--json", hashed, str(new))
        document = json.loads(done.stdout)
        assert (done.returncode, document["removed"]) == (1, [])
        [added], [change] = document["added"], document["by_caller"]
        assert (added["size"], change["areas"], change["pages"]) == (20480, 1, 4)
