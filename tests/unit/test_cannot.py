# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What cannot be answered: one line on standard error, nothing on standard output,
exit status 2. Run as a person runs it, through drgn's own command line.
"""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Sequence

import pytest
from drgn import Program, Type

from drgn_vmap.commands import run
from tests.fakes.elf_core import PT_NOTE, Segment, elf_headers
from tests.fakes.kernel import VMALLOC_START, FakeArea, FakeKernel
from tests.sources import ROOT


@pytest.fixture
def user_core(tmp_path: Path) -> Path:
    """A core file without VMCOREINFO, as of a process: an ELF header and no more."""
    data = struct.pack("<III", 5, 0, 1) + b"CORE\0\0\0\0"
    note = Segment(120, 0, 0, len(data), len(data), PT_NOTE)
    path = tmp_path / "core"
    path.write_bytes(elf_headers([note]) + data)
    return path


def drgn(core: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    command: List[str] = [sys.executable, "-m", "drgn", "-q", "--no-default-symbols"]
    command += ["-c", str(core), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def assert_cannot(result: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("vmap ls: "), lines
    for word in words:
        assert word in lines[0]


def test_user_core(user_core: Path) -> None:
    """A process's core is no kernel's."""
    result = drgn(user_core, str(ROOT / "scripts/vmap_ls.py"))
    assert_cannot(result, "no Linux kernel", "vmcore")


@pytest.mark.parametrize(
    "args, words",
    [
        (["--kind", "vmalloc,nosuch"], ["nosuch", "vm_map_ram"]),
        (["--range", "10-5"], ["10-5"]),
        (["--range", "elsewhere"], ["elsewhere"]),
        (["--min-size", "lots"], ["lots"]),
        (["--format", "xml"], ["xml", "proc"]),
        (["--sort", "colour"], ["colour", "address"]),
        (["--pointers", "bare"], ["bare", "hashed"]),
        (["--fromat", "json"], ["--fromat"]),
        (["stray"], ["stray"]),
    ],
)
def test_bad_usage(user_core: Path, args: Sequence[str], words: Sequence[str]) -> None:
    """Bad arguments are named before the target is looked at."""
    result = drgn(user_core, str(ROOT / "scripts/vmap_ls.py"), *args)
    assert_cannot(result, *words)


def test_help(user_core: Path) -> None:
    """--help needs no good target, and names every kind."""
    result = drgn(user_core, str(ROOT / "scripts/vmap_ls.py"), "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for word in ("--kind", "vm_map_ram", "dma-coherent", "Exit status"):
        assert word in result.stdout


def test_no_vmcore(tmp_path: Path) -> None:
    """What is no core at all drgn refuses itself, before a script can."""
    path = tmp_path / "text"
    path.write_text("no core\n")
    result = drgn(path, str(ROOT / "scripts/vmap_ls.py"))
    assert result.returncode == 1
    assert result.stdout == ""
    assert "not an ELF core file" in result.stderr


def test_kernel_without_vmap_areas(capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel without an MMU has other types, but no struct vmap_area."""
    assert run("ls", FakeKernel([]).program(without="vmap_area"), []) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "vmap ls: this kernel has no vmap areas (no MMU): nothing to show\n"


@pytest.mark.parametrize("verb", ["ls", "top", "gaps", "verify", "report"])
def test_a_snapshot_of_no_text(
    verb: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A kernel has no snapshots to choose from, and no other is shown in its place."""
    prog, path = FakeKernel([]).program(), tmp_path / "report"
    args = ["-o", str(path)] if verb == "report" else []
    assert run(verb, prog, [*args, "--snapshot", "1"]) == 2
    out, err = capsys.readouterr()
    assert (out, path.exists()) == ("", False)
    assert err.startswith(f"vmap {verb}: --snapshot ") and "give --from FILE" in err


def test_no_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into memory ends with a line too."""

    def take(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("drgn_vmap.kernel.vmalloc.snapshot.take_snapshot", take)
    assert run("ls", FakeKernel([]).program(), []) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("vmap ls: memory is not enough: ")


class LossyKernel(FakeKernel):
    """A kernel whose types lack a member that all kernels have: its name is damaged."""

    def __init__(self, struct_: str, member: str) -> None:
        super().__init__([FakeArea(VMALLOC_START, 2, 2)])
        self._struct, self._member = struct_, member

    def _types(self, prog: Program) -> Dict[str, Type]:
        types = super()._types(prog)
        whole = types[self._struct]
        members = [one for one in whole.members or () if one.name != self._member]
        size = whole.size or 0
        return {
            **types,
            self._struct: prog.struct_type(self._struct, size, members),
        }


@pytest.mark.parametrize("member", ["va_start", "va_end", "vm", "list"])
def test_a_lost_member_of_areas(
    member: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named; no verb breaks off, or takes it for zeros."""
    for verb in ("ls", "top", "fsck", "gaps"):
        assert run(verb, LossyKernel("vmap_area", member).program(), []) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1)
        assert member in err and "install the kernel's debug info" in err


@pytest.mark.parametrize("member", ["addr", "size", "nr_pages", "caller"])
def test_a_lost_member_of_vm_struct(
    member: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and of areas there are the ranges still."""
    whole = LossyKernel("vm_struct", "none").program()
    assert run("ls", whole, []) == 0
    ranges = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert run("ls", LossyKernel("vm_struct", member).program(), []) == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ranges
    assert f"member {member} of struct vm_struct" in err
