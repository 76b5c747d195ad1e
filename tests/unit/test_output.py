# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Output and arguments
--------------------

Whatever standard output is, and however odd an argument: no traceback.
"""

import contextlib
import errno
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Sequence

import pytest
from drgn.commands import run_command

import drgn_vmap.plugin  # noqa: F401
from drgn_vmap.commands import run
from drgn_vmap.commands.progress import Progress
from tests.fakes.kernel import PAGE, VMALLOC_START, FakeArea, FakeKernel
from tests.sources import ROOT

SAMPLE = str(ROOT / "docs/samples/after")


def shell(
    command: str, verb: str = "top", **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run a verb on a saved file; its command line stands for %."""
    program = f"{sys.executable} {ROOT}/scripts/vmap_{verb}.py --from {SAMPLE}"
    return subprocess.run(
        ["bash", "-c", command.replace("%", program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_old_encodings(encoding: str) -> None:
    """What the encoding cannot say is escaped; JSON is the same in each."""
    done = shell("% -n 2", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2026 and" in done.stdout
    done = shell("% --json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout) == json.loads(shell("% --json").stdout)


@pytest.mark.parametrize("verb", ["ls", "top"])
def test_full_disk(verb: str) -> None:
    """One line, also when Python ends and would write what is left."""
    done = shell("% > /dev/full", verb)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"vmap {verb}: ") and "No space left" in line


def test_full_disk_and_help() -> None:
    """A help that is nowhere is none, also where Python keeps nothing back to write."""
    done = shell("% --help > /dev/full", "ls", PYTHONUNBUFFERED="1")
    assert done.returncode == 2 and "No space left" in done.stderr


def test_closed_output() -> None:
    """Who closes standard output wants the exit status alone."""
    done = shell("% >&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_closed_pipe() -> None:
    """A reader that has seen enough is no failure."""
    done = shell("set -o pipefail; % --json | head -c 1", "ls")
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


@pytest.mark.parametrize(
    "command",
    [
        "% -n 2",
        "% --no-such-option",
        "% --from /nowhere",
        f"% -n 2 --from <(cat {SAMPLE}; echo 0xno such line)",
        "% -n 2 > /dev/full",
    ],
)
def test_standard_error(command: str) -> None:
    """Full, closed or unread, it changes no exit status, and no standard output."""
    usual = shell(command)
    assert len(usual.stderr.splitlines()) == (usual.returncode != 0)
    for redirection in ("2> /dev/full", "2>&-", "2> >(true)"):
        done = shell(f"{command} {redirection}")
        assert (done.returncode, done.stdout) == (usual.returncode, usual.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """Signals end a script at once, and shells say which it was."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    script = str(ROOT / "scripts/vmap_ls.py")
    process = subprocess.Popen(
        [sys.executable, script, "--from", str(pipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background jobs, of which pytest may be one, ignore it.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    # Once the pipe is open, the script waits for what is written to it.
    with pipe.open("w"):
        time.sleep(0.2)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    ended = 128 + number if number == signal.SIGINT else -number
    assert (process.returncode, out, err) == (ended, b"", b"")


@pytest.mark.parametrize(
    "verb, args",
    [
        ("top", ["-n", "-1"]),
        ("top", ["-n", "9" * 30]),
        ("diff", ["a", "b", "-n", "-2"]),
        ("ls", ["--min-size", "-1"]),
        ("ls", ["--min-size", "0x1ffffffffffffffff"]),
        ("blocks", ["--cpu", "-1"]),
        ("blocks", ["--address", "-1"]),
        ("blocks", ["--address", "0x1ffffffffffffffff"]),
        ("blocks", ["--address", "here"]),
        ("addr", ["0x1ffffffffffffffff"]),
        ("addr", ["virt:1"]),
        ("gaps", ["--fit", "-1"]),
    ],
)
def test_no_such_number(
    capsys: pytest.CaptureFixture[str], verb: str, args: Sequence[str]
) -> None:
    """Numbers that make no sense are refused, and named."""
    assert run(verb, FakeKernel([]).program(), args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith(f"vmap {verb}: ") and args[-1] in line


def test_sizes_as_people_write_them() -> None:
    """--min-size takes a unit: four areas have 2 MiB and a guard page, or more."""
    done = shell("% --min-size 2M", "ls")
    sizes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    every = [int(line.split()[1]) for line in Path(SAMPLE).read_text().splitlines()]
    assert sorted(sizes) == sorted(size for size in every if size >= 2 << 20)


def test_errors_are_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever an error quotes, it neither breaks the line nor moves the cursor."""
    assert run("diff", None, ["/nowhere/\x1b[2J\n\x9b", "b"]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.rstrip("\n").isprintable() and "\\x1b[2J\\n" in err


def test_unreadable_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the variables themselves are lost, each verb says so in a line."""
    kernel = FakeKernel([])
    kernel.variables = {
        name: (type_, 0) for name, (type_, _) in kernel.variables.items()
    }
    for verb in ("ls", "top"):
        assert run(verb, kernel.program(), []) == 2
        out, err = capsys.readouterr()
        assert out == "" and "cannot be read" in err and len(err.splitlines()) == 1


def test_in_a_session(tmp_path: Path) -> None:
    """Pipes and redirections of drgn's prompt: each command leaves a usable output."""
    kernel = FakeKernel([FakeArea(VMALLOC_START + at * PAGE, 1, 2) for at in range(9)])
    prog, file = kernel.program(), tmp_path / "file"
    before = sys.stdout
    for command in (
        f"vmap ls --json | head -c 1 > {file}",
        f"vmap ls > {file}",
        f"vmap ls --no-such-option 2> {file}",
        f"vmap ls | wc -l >> {file}",
    ):
        run_command(prog, command)
        assert sys.stdout is before
    assert (
        file.read_text()
        == "vmap ls: unrecognized arguments: --no-such-option: see %vmap ls --help\n9\n"
    )
    with pytest.raises(FileNotFoundError):
        run_command(prog, "vmap ls > /nowhere/file")
    assert sys.stdout is before


@pytest.mark.parametrize("error", [errno.EIO, errno.EPIPE])
def test_a_session_goes_on(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """What fails to be read is told, and the session prints what comes next."""

    def fail(*_: object) -> int:
        print("so far")
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("drgn_vmap.commands.ls.run", fail)
    run_command(FakeKernel([]).program(), "vmap ls")
    print("and on", flush=True)
    out, err = capfd.readouterr()
    assert out == "so far\nand on\n"
    assert os.strerror(error) in err and len(err.splitlines()) == 1


def test_a_session_goes_on_behind_pipes(capfd: pytest.CaptureFixture[str]) -> None:
    """Also if nobody has read what a command printed."""
    kernel = FakeKernel(
        [FakeArea(VMALLOC_START + at * PAGE, 1, 2) for at in range(999)]
    )
    for command in ("vmap ls --json | head -c 1", "vmap ls | true"):
        run_command(kernel.program(), command)
        print("and on", flush=True)
    out, err = capfd.readouterr()
    assert (out, err) == ("{and on\nand on\n", "")


def test_progress_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that has gone ends no work."""
    ours, theirs = pty.openpty()
    os.close(ours)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        with pytest.raises(OSError):
            print("gone", file=terminal, flush=True)
        with Progress("slice", "pages") as progress:
            now[0] = 9.0
            progress.update(1)
        with contextlib.suppress(OSError):
            terminal.close()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_tables_fit_the_terminal(columns: int) -> None:
    """No line is longer than the terminal is wide, and none has an escape sequence."""
    for verb, options in (("ls", ["--format", "table"]), ("top", [])):
        ours, theirs = pty.openpty()
        command = [sys.executable, f"{ROOT}/scripts/vmap_{verb}.py", *options]
        env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
        with subprocess.Popen(
            [*command, "--from", SAMPLE], stdout=theirs, env=env
        ) as process:
            os.close(theirs)
            text = _all_of(ours)
        assert process.returncode == 0 and "\x1b" not in text
        assert max(map(len, text.splitlines())) <= columns


def _all_of(terminal: int) -> str:
    parts = []
    try:
        while part := os.read(terminal, 1 << 16):
            parts.append(part)
    except OSError:
        pass  # The other side was closed.
    os.close(terminal)
    return b"".join(parts).decode()
