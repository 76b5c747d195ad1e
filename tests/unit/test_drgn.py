# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an older drgn lacks is made up for, or named in one line with what to do."""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from drgn import Architecture, Platform, Program

from drgn_vmap import _drgn
from drgn_vmap.commands import guarded
from drgn_vmap.errors import DrgnError, SymbolsError
from drgn_vmap.kernel.types.btf import BtfTypes
from drgn_vmap.kernel.types.btf_data import BtfData, BtfKind
from tests.fakes.btf import Maker
from tests.sources import ROOT


class Older:
    """A program of a drgn that knows next to nothing."""


OLDER: Any = Older()


def cannot(call: Any, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line that a verb says when it cannot."""
    assert guarded("vmap ls", call) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vmap ls: ") and err.count("\n") == 1
    return err


def test_too_old(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the version that setup.cfg asks for, and how to get it."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    oldest = setup["options"]["install_requires"].partition("drgn>=")[2].split()[0]
    _drgn.check_drgn()
    monkeypatch.setattr(_drgn, "Program", Older)
    with pytest.raises(DrgnError, match=f"{oldest} is needed: pip install --upgrade"):
        _drgn.check_drgn()
    assert "Debian" in cannot(_drgn.check_drgn, capsys)
    with pytest.raises(DrgnError, match="0.1.0 is needed: pip install --upgrade"):
        _drgn.make_linux_kernel(OLDER, b"", False)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("cannot import name 'x' from 'drgn.helpers'", name="drgn.helpers"),
        ModuleNotFoundError("No module named 'drgn.x'", name="drgn.x"),
        ImportError("cannot import name 'x' from 'drgn'", name="drgn"),
    ],
)
def test_no_module_is_called_a_package(
    error: ImportError, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a package lacks is in no package of that name."""

    def call() -> int:
        raise error

    said = cannot(call, capsys)
    assert said.startswith("vmap ls: the installed drgn does not fit (")
    assert "pip install drgn.x" not in said and "python3-drgn." not in said


def test_no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where drgn's prompt has no commands, a plugin is as good as not there."""
    monkeypatch.setitem(sys.modules, "drgn.commands", None)

    def command() -> None:
        """Do nothing."""

    assert _drgn.linux_kernel_command([(("-h",), {})], name="x")(command) is command


def test_files_that_are_open(tmp_path: Path) -> None:
    """Whatever this process has open may be the vmcore, and is not overwritten."""
    (tmp_path / "vmcore").touch()
    with (tmp_path / "vmcore").open() as file:
        found = [name for name in _drgn.opened_files(OLDER) if os.path.exists(name)]
        assert any(os.path.samefile(name, file.name) for name in found)
    if hasattr(Program, "core_dump_path"):
        assert _drgn.opened_files(Program()) == []


def test_no_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """What drgn cannot tell is not known."""
    monkeypatch.setattr(_drgn, "_mmzone", lambda: None)
    with pytest.raises(LookupError):
        _drgn.section_is_present(Program(), 1)


def test_strings() -> None:
    """A string ends with its zero, or where it has to."""
    prog = Program(Platform(Architecture.X86_64))
    memory = b"x" * 8 + b"string\0more"
    prog.add_memory_segment(0, len(memory), lambda at, n, *_: memory[at : at + n])
    assert _drgn.read_c_string(prog, 8, False, 100) == b"string"
    assert _drgn.read_c_string(prog, 8, False, 3) == b"str"


def test_errors_that_drgn_handed_on(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with BTF is one line, also where drgn comes across it."""
    made = Maker()
    made.add(BtfKind.STRUCT, "s", 8, [made.string("a"), 99, 0], vlen=1)
    prog = Program(Platform(Architecture.X86_64))
    struct = BtfTypes(prog, BtfData(made.data())).type(1)

    def call() -> int:
        return len(repr(struct.member("a").type))

    assert "damaged" in cannot(call, capsys)
    with pytest.raises(Exception) as raised:
        call()
    assert isinstance(_drgn.as_raised(raised.value), SymbolsError)
    assert _drgn.as_raised(Exception("a: b")) is None
    assert _drgn.as_raised(KeyError("SymbolsError: x")) is None
