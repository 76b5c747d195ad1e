# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Copies of /proc/vmallocinfo of real kernels: `--from` takes each line of them, and
`diff` names the leak that the fixture module made between two moments.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from drgn_vmap.commands import run
from tests.running import on_vmcore, script

from .guest import Guest
from .marks import slow
from .stress import stress
from .support import NO_SYMBOLS, shows
from .vmcore import Vmcore

PAGE = 4096
LEAKED = 25
VMALLOCINFO = "/proc/vmallocinfo"
KPTR_RESTRICT = "/proc/sys/kernel/kptr_restrict"


def expect_back(text: bytes, directory: Path) -> None:
    """Expect each line to be understood, and to come back as it was."""
    path = directory / "vmallocinfo"
    path.write_bytes(text)
    done = script("ls", "--from", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == text.decode()
    assert len(text.splitlines()) > 100


@shows("text", NO_SYMBOLS)
@pytest.mark.parametrize("restrict", ["0", "1", "2"])
def test_every_line(module_guest: Guest, tmp_path: Path, restrict: str) -> None:
    """Hashed, real and hidden addresses."""
    module_guest.write(KPTR_RESTRICT, restrict.encode())
    text = module_guest.read(VMALLOCINFO)
    module_guest.write(KPTR_RESTRICT, b"0")
    expect_back(text, tmp_path)


def test_every_line_under_stress(module_guest: Guest, tmp_path: Path) -> None:
    """Areas that are being made, freed and purged, in samples taken all the while."""
    with stress(module_guest):
        done = module_guest.run("sleep 3", sample=VMALLOCINFO)
    samples = set(done.samples)
    assert len(samples) > 3
    path = tmp_path / "vmallocinfo"
    for sample in samples:
        path.write_bytes(sample)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            run("ls", None, ["--from", str(path)])
        # A kernel that changes while it is read may print a line twice.
        there = sample.decode().splitlines()
        once = list(dict.fromkeys(there))
        assert out.getvalue().splitlines() == once, err.getvalue()
        assert ("stands there before" in err.getvalue()) == (once != there)


def test_every_line_of_a_crash(kdump_vmcore: Vmcore, tmp_path: Path) -> None:
    """What was saved before the kernel crashed."""
    expect_back(kdump_vmcore.vmallocinfo, tmp_path)


def test_sums_of_a_vmcore(vmcores: dict[str, Vmcore], tmp_path: Path) -> None:
    """The file and the vmcore name the same callers, with the same sums."""
    vmcore = vmcores["elf"]
    expect_back(vmcore.vmallocinfo, tmp_path)
    path = tmp_path / "vmallocinfo"
    file = json.loads(script("top", "--from", str(path), "--json").stdout)
    core = on_vmcore(vmcore, "top")
    ram = ("vm_map_ram", "vmap_block")
    rows = {row["key"]: row for row in core["rows"] if row["key"] not in ram}
    assert len(rows) > 20
    assert rows == {
        row["key"]: {**row, "share": rows[row["key"]]["share"]}
        for row in file["rows"]
        if row["key"] not in ram
    }
    assert file["total"] == core["total"]


def leak_between(old: Path, new: Path) -> list[tuple[int, int, int]]:
    """Return what `diff` says of the module's leak: areas, bytes and pages."""
    done = script("diff", "--json", str(old), str(new))
    assert done.returncode == 1, done.stderr
    return [
        (change["areas"], change["bytes"], change["pages"])
        for change in json.loads(done.stdout)["by_caller"]
        if change["caller"].startswith("vmap_lab_leak+")
    ]


@slow
def test_leak(module_guest: Guest, vmcores: dict[str, Vmcore], tmp_path: Path) -> None:
    """Between two live moments, kept in each form, and a vmcore and a live moment."""

    command = "drgn -q -c /proc/kcore tests/lab/inside/leak.py"
    done = module_guest.run(f"{command} {LEAKED}", timeout=300)
    assert done.status == 0, done.stderr
    paths: dict[str, list[Path]] = {}
    for when, texts in json.loads(done.stdout).items():
        paths[when] = [tmp_path / name for name in (f"{when}.json", when)]
        for path, text in zip(paths[when], texts):
            path.write_text(text)
        paths[when].append(tmp_path / f"{when}.slice")
        module_guest.get(f"/tmp/{when}.slice", paths[when][-1])
        module_guest.run(f"rm /tmp/{when}.slice")
    vmcore, core = vmcores["elf"], tmp_path / "core.json"
    core.write_text(json.dumps(on_vmcore(vmcore, "ls")))
    listing, _, slice_ = paths["after"]
    pairs = [*zip(paths["before"], paths["after"])]
    pairs += [(core, listing), (core, slice_), (vmcore.path, listing)]
    leak = [(LEAKED, LEAKED * 2 * PAGE, LEAKED)]
    assert [leak_between(*pair) for pair in pairs] == [leak] * len(pairs)
