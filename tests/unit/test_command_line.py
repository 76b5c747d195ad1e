# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The command ``vmap``: what it opens, what it refuses, and that its output is the scripts'.
"""

import errno
import os
import re
import subprocess
import sys
from typing import List, Optional

import pytest

from drgn_vmap import __version__
from drgn_vmap.commands import VERBS, WITHOUT_TARGET
from drgn_vmap.commands.command_line import run_command, whole_parser
from drgn_vmap.errors import TargetError
from drgn_vmap.kernel.opening import open_target
from tests.running import command, script
from tests.sources import ROOT, skip_without_source

TEXT = "docs/samples/after"


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["help"]])
def test_about_itself(args: List[str]) -> None:
    """
    It tells its version and its verbs, without drgn, numpy or tabulate, and fits a terminal.
    """
    code = (
        f"import sys; sys.argv = {['vmap', *args]!r}\n"
        "for name in ('drgn', 'numpy', 'tabulate'): sys.modules[name] = None\n"
        "from drgn_vmap.commands.command_line import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if args == ["--version"]:
        assert done.stdout == f"vmap {__version__}\n"
    else:
        assert [verb for verb in VERBS if f"  {verb}" not in done.stdout] == []
        assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_verbs(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    vmap help VERB is vmap VERB --help, says how a kernel is named, and fits a terminal.
    """
    assert run_command(["help", verb]) == 0
    text, err = capsys.readouterr()
    assert text.startswith(f"usage: vmap {verb} ") and err == ""
    assert run_command([verb, "--help"]) == 0
    assert capsys.readouterr() == (text, "")
    assert ("--qemu" in text) == (verb not in WITHOUT_TARGET)
    assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("args", [["top", "--from"], ["ls", "--json", "--from"]])
def test_texts_as_scripts_do(args: List[str]) -> None:
    """Neither drgn nor a kernel is needed for a text; the output is the script's."""
    verb, *rest = args
    done, of_script = command(verb, *rest, TEXT), script(verb, *rest, TEXT)
    assert done.returncode == 0 and done.stdout
    assert done.stdout == of_script.stdout and done.stderr == of_script.stderr


@pytest.mark.parametrize(
    "args, words",
    [
        (["lss"], ["no verb 'lss'", "vmap ls"]),
        (["everything"], ["no verb 'everything'", ", top,"]),
        (["help", "nosuch"], ["no verb 'nosuch'"]),
        (["help", "ls", "top"], ["one verb", "'top'"]),
        (["--bogus"], ["--bogus", "vmap --help"]),
        (["-c", TEXT, "ls"], ["the verb comes first"]),
        (["-c"], ["argument -c/--core", "vmap --help"]),
        (["-c", TEXT], [TEXT, "give it with --from"]),
        (["ls", "--bogus"], ["--bogus", "vmap ls --help"]),
        (["ls", "-c", "nosuch/file"], ["nosuch/file", "No such file", "vmcore"]),
        (["ls", "-c", ""], ["''", "No such file"]),
        (["ls", "-c", "a\0b"], ["cannot be opened"]),
        (["ls", "-c", "docs"], ["docs", "Is a directory"]),
        (["ls", "-c", TEXT], [TEXT, "give it with --from"]),
        (["ls", "-c", sys.executable], ["not an ELF core file"]),
        (["ls", "-c", TEXT, "-c", TEXT], ["-c is given twice"]),
        (["ls", "-c", TEXT, "-k"], ["-k", "not allowed with", "-c"]),
        (["ls", "--qemu", "nosuch/socket"], ["nosuch/socket", "-qmp"]),
        (["ls", "--qemu", TEXT], [TEXT, "-qmp"]),
        (
            ["ls", "--from", "nosuch"],
            ["nosuch cannot be read (No such file or directory): "],
        ),
        (["ls", "--from", ""], ["'' cannot be read (No such file or directory): "]),
        (["ls", "--from", "a\0b"], ["cannot be read (embedded null byte): "]),
        (["ls", "--from", TEXT, "-c", TEXT], ["--from"]),
        (["ls", "--from", TEXT, "-s", TEXT], ["--from"]),
        (["ls", "--from=--"], ["--from=--", "vmap ls --help"]),
        (["ls", "-c--"], ["-c--", "vmap ls --help"]),
        (["--qemu=--"], ["--qemu=--", "vmap --help"]),
        (["diff", "-c", TEXT], ["-c", "vmap diff --help"]),
    ],
)
def test_what_it_refuses(
    args: List[str], words: List[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names what was typed, nothing on standard output, status 2."""
    assert run_command(args) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert (out, len(lines)) == ("", 1)
    who = f"vmap {args[0]}: " if args[0] in VERBS else "vmap: "
    assert lines[0].startswith(who)
    assert [word for word in words if word not in lines[0]] == []


class Refused:
    """A program on a machine whose /proc/kcore cannot be opened."""

    number = errno.EACCES

    def set_kernel(self) -> None:
        """Open /proc/kcore."""
        raise OSError(self.number, os.strerror(self.number), "/proc/kcore")


@pytest.mark.parametrize(
    "number, why",
    [
        (
            errno.EACCES,
            "/proc/kcore cannot be opened (Permission denied): be root, in no container, or ",
        ),
        (
            errno.ENOENT,
            "this machine has no /proc/kcore, as 32-bit Arm and some containers have none: ",
        ),
    ],
)
def test_without_kcore(
    number: int,
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Without a kernel that is named it is the running one, which only root may read, and
    only where there is a file of it.
    """
    monkeypatch.setattr(Refused, "number", number)
    monkeypatch.setattr("drgn_vmap.kernel.opening.Program", Refused)
    assert run_command(["ls"]) == run_command([]) == 2
    out, err = capsys.readouterr()
    lines = [
        line.startswith(f"{who}: {why}")
        for who, line in zip(("vmap ls", "vmap"), err.splitlines())
    ]
    assert (out, lines) == ("", [True, True])


class Recording:
    """A program that notes down which plugins are left out as it is opened."""

    def set_core_dump(self, _: str) -> None:
        """Open a vmcore."""
        raise ValueError(os.environ.get("DRGN_DISABLE_PLUGINS"))


@pytest.mark.parametrize(
    "before, meanwhile",
    [
        (None, "builtin_commands,crash_commands,drgn_vmap"),
        ("one,two", "one,two,builtin_commands,crash_commands,drgn_vmap"),
        ("*", "*"),
    ],
)
def test_plugins(
    before: Optional[str], meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that make commands are left out meanwhile, others as the user says."""
    name = "DRGN_DISABLE_PLUGINS"
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    monkeypatch.setattr("drgn_vmap.kernel.opening.Program", Recording)
    with pytest.raises(TargetError, match=re.escape(f"({meanwhile})")):
        open_target(core="core")
    assert os.environ.get(name) == before


def test_a_whole_parser() -> None:
    """What completions and manuals are made of has every verb, and parses its words."""
    parser = whole_parser()
    for verb in VERBS:
        target = [] if verb in WITHOUT_TARGET else ["-c", "core"]
        needed = {"diff": ["old"], "addr": ["0"], "read": ["0"]}.get(verb, [])
        if verb in ("report", "slice"):
            needed = ["-o", "file"]
        args = parser.parse_args([verb, *target, *needed])
        assert getattr(args, "core", None) == ("core" if target else None)


def test_one_version() -> None:
    """The RPM, whose spec cannot ask the package, is of the package's version."""
    skip_without_source()
    spec = (ROOT / "contrib/packaging/drgn-vmap.spec").read_text()
    assert f"\nVersion:        {__version__}\n" in spec


def test_scripts_can_be_started() -> None:
    """A script is started by its name, as its first line asks for."""
    scripts = list((ROOT / "scripts").glob("*.py"))
    assert scripts and all(os.access(path, os.X_OK) for path in scripts)
    assert all(path.read_text().startswith("#!/usr/bin/env ") for path in scripts)
