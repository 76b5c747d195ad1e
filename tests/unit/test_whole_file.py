# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Where -o writes
---------------

A whole new file or the old one, and nothing else in the folder.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import pytest
from drgn import Program

from drgn_vmap.commands import run
from drgn_vmap.commands.output import whole_file
from drgn_vmap.commands.signals import cleared_up_by_signals
from drgn_vmap.errors import UsageError
from tests.samples import samples
from tests.sources import ROOT

SAVED = ROOT / "docs/samples/after"
REPORT = [sys.executable, str(ROOT / "scripts/vmap_report.py"), "--from"]
OLD = b"what was there before\n"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: For each of two verbs.
RANDOM_SIGNALS = 10
FULL = 1 << 16


def write(name: Path | str, content: bytes = b"new", **options: Any) -> None:
    """Write a file as verbs do."""
    with whole_file(str(name), options.pop("sources", ()), **options) as file:
        file.write(content)


def names(folder: Path) -> list[str]:
    """Return what a folder holds."""
    return sorted(os.listdir(folder))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# What it takes the place of


def test_a_whole_file(tmp_path: Path) -> None:
    """The old one stands until the new one is whole."""
    path = tmp_path / "file"
    path.write_bytes(OLD)
    with whole_file(str(path), ()) as file:
        file.write(b"....rest")
        file.seek(0)
        file.write(b"head")
        assert path.read_bytes() == OLD
    assert path.read_bytes() == b"headrest"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_errors_leave_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    """Whatever is raised amidst passes through."""
    path = tmp_path / "file"
    path.write_bytes(OLD)
    with pytest.raises(error):
        with whole_file(str(path), ()) as file:
            file.write(b"part")
            raise error
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("is_there", [True, False])
def test_symlinks_stay(tmp_path: Path, is_there: bool) -> None:
    """What they lead to is replaced, or made, through as many as there are."""
    (tmp_path / "there").mkdir()
    path, link, other = (tmp_path / name for name in ("there/file", "link", "other"))
    if is_there:
        path.write_bytes(OLD)
    link.symlink_to("there/file")
    other.symlink_to(link)
    write(other)
    assert other.is_symlink() and link.is_symlink() and not path.is_symlink()
    assert path.read_bytes() == b"new"
    assert names(tmp_path / "there") == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_it(tmp_path: Path, mask: int) -> None:
    """As the umask says, or as it was; kernel memory is its owner's alone."""
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_bytes(OLD)
    with umask(mask):
        for before in (0o644, 0o664, 0o600, 0o440):
            old.chmod(before)
            write(old)
            assert mode(old) == before
        old.chmod(0o644)
        write(old, is_memory=True)
        write(new)
    assert mode(old) == 0o600
    assert mode(new) == 0o666 & ~mask


def test_nobody_else_reads_it_before(tmp_path: Path) -> None:
    """While it is written it is as closed as in the end."""
    for is_memory in (True, False):
        path = tmp_path / "file"
        path.write_bytes(OLD)
        path.chmod(0o600)
        with umask(0), whole_file(str(path), (), is_memory):
            assert {mode(tmp_path / name) for name in names(tmp_path)} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_whose_it_is(tmp_path: Path) -> None:
    """What root writes over a user's file stays the user's."""
    path = tmp_path / "file"
    path.write_bytes(OLD)
    os.chown(path, 12, 34)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12, 34)


@pytest.mark.parametrize("length", [1, 250, 255])
def test_long_names(tmp_path: Path, length: int) -> None:
    """Whatever a folder takes."""
    write(tmp_path / ("x" * length))
    assert names(tmp_path) == ["x" * length]


# What it does not


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [make_fifo, make_device, make_loop, make_folder])
@pytest.mark.parametrize("linked", [False, True])
def test_no_file_to_replace(tmp_path: Path, make: Any, linked: bool) -> None:
    """Nobody waits for a reader, and what is there stays."""
    path = tmp_path / "there"
    make(path)
    before = os.lstat(path)
    if linked:
        (tmp_path / "link").symlink_to(path)
    with pytest.raises(UsageError, match="there|link"):
        write(tmp_path / "link" if linked else path)
    assert os.lstat(path).st_mode == before.st_mode
    assert os.lstat(path).st_ino == before.st_ino
    assert names(tmp_path) == (["link", "there"] if linked else ["there"])


@pytest.mark.parametrize(
    "name", ["", "new/", "nowhere/file", ".", "..", "x" * 256, "a\0b", "/proc/file"]
)
def test_no_name_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One line says so."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=": [a-z]"):
        write(name)
    assert names(tmp_path) == []


@pytest.mark.parametrize("how", ["itself", "symlink", "hard link", "other spelling"])
def test_never_what_is_read(tmp_path: Path, how: str) -> None:
    """By whichever name."""
    path = tmp_path / "vmcore"
    path.write_bytes(OLD)
    name = str(tmp_path / "other")
    if how == "itself":
        name = str(path)
    elif how == "symlink":
        os.symlink(path, name)
    elif how == "hard link":
        os.link(path, name)
    else:
        name = f"{tmp_path}/../{tmp_path.name}//vmcore"
    before = names(tmp_path)
    with pytest.raises(UsageError, match="itself what is read"):
        write(name, sources=["/nowhere", str(path)])
    assert path.read_bytes() == OLD
    assert names(tmp_path) == before


def test_verbs_name_what_they_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The vmcore, or what --from names; nothing of either is touched."""
    path = samples()[0].unpack(tmp_path / "vmcore")
    before = path.read_bytes()
    prog = Program()
    prog.set_core_dump(path)
    saved = tmp_path / "saved"
    saved.write_bytes(SAVED.read_bytes())
    for verb, args, name in (
        ("slice", [], path),
        ("report", [], path),
        ("report", ["--from", str(saved)], saved),
    ):
        assert run(verb, prog, [*args, "-o", str(name)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            f"vmap {verb}: {name} is itself what is read: choose another file\n"
        )
    assert path.read_bytes() == before
    assert saved.read_bytes() == SAVED.read_bytes()
    assert names(tmp_path) == ["saved", "vmcore"]


@pytest.mark.parametrize("stream", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_never_a_stream(tmp_path: Path, stream: str) -> None:
    """Whether it is a file, a pipe or a device, -o - is the way to write to it."""
    for redirection in (f"> {tmp_path}/file", "| cat", "> /dev/null"):
        command = " ".join([*REPORT, str(SAVED), "-o", stream])
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} {redirection}"],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert stream in line and "- for standard output" in line
    assert (tmp_path / "file").read_bytes() == b""
    assert Path("/dev/stdout").is_symlink()


# Standard output


def test_standard_output(tmp_path: Path) -> None:
    """-o - prints what -o FILE writes, and no file called -."""
    command = [*REPORT, str(SAVED), "-o"]
    subprocess.run([*command, "file"], cwd=tmp_path, check=True)
    done = subprocess.run([*command, "-"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (tmp_path / "file").read_bytes()
    assert names(tmp_path) == ["file"]


def test_all_or_nothing_on_standard_output(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """What fails amidst has printed nothing."""
    with pytest.raises(ValueError):
        with whole_file("-", ()) as file:
            file.write(b"part")
            raise ValueError
    with whole_file("-", (), is_memory=True) as file:
        file.write(b"....rest")
        file.seek(0)
        file.write(b"head")
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"headrest"


def test_no_memory_on_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a target holds could be anything to a terminal."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(UsageError, match="a terminal"):
        write("-", is_memory=True)


@pytest.mark.parametrize(
    "redirection, status", [("> /dev/full", 2), ("| head -c 9", 0)]
)
def test_standard_output_that_fails(redirection: str, status: int) -> None:
    """As of other verbs: a line if it is full, none if nobody reads on."""
    command = " ".join([*REPORT, str(SAVED), "-o", "-"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {redirection}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == (1 if status else 0)
    assert "Traceback" not in done.stderr


# Full disks


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Give a folder that takes little: a disk of its own where one can be mounted."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={FULL}", "none", str(disk)]
    is_mounted = (
        os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if not is_mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, before[1]))
        yield disk
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if is_mounted:
            subprocess.run(["umount", str(disk)], check=True)


def test_full_disk(tmp_path: Path) -> None:
    """The old file stays, and all that was written is given back."""
    with small_disk(tmp_path) as disk:
        path = disk / "file"
        path.write_bytes(OLD)
        for _ in range(2):
            with pytest.raises(UsageError, match="file cannot be written"):
                write(path, bytes(4 * FULL))
            assert path.read_bytes() == OLD
            assert names(disk) == ["file"]
        write(path, bytes(FULL // 2))
        assert path.stat().st_size == FULL // 2


def test_too_large(tmp_path: Path) -> None:
    """A limit on the size of files ends a verb in one line, and not by a signal."""
    (tmp_path / "file").write_bytes(OLD)
    done = subprocess.run(
        [*REPORT, str(SAVED), "-o", "file"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "vmap report: file cannot be written (File too large): choose another place\n"
    )
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == OLD


# Signals


def report_of_pipe(
    folder: Path, handled: signal.Handlers = signal.SIG_DFL
) -> subprocess.Popen[bytes]:
    """Start a report of a pipe: it waits for what is written to it."""
    pipe = folder.parent / "pipe"
    os.mkfifo(pipe)

    def handle() -> None:
        for number in ENDING:
            signal.signal(number, handled)

    return subprocess.Popen(
        [*REPORT, str(pipe), "-o", str(folder / "file")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=handle,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an old file, and nothing else."""
    path = tmp_path / "folder"
    path.mkdir()
    (path / "file").write_bytes(OLD)
    return path


@pytest.mark.parametrize("number", ENDING)
def test_signals(folder: Path, number: signal.Signals) -> None:
    """Nothing is printed, and the status says which it was."""
    process = report_of_pipe(folder)
    with open(folder.parent / "pipe", "w"):
        assert len(names(folder)) == 2
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    ended = 128 + number if number == signal.SIGINT else -number
    assert (process.returncode, out, err) == (ended, b"", b"")
    assert names(folder) == ["file"]
    assert (folder / "file").read_bytes() == OLD


@pytest.mark.parametrize("numbers", list(itertools.permutations(ENDING)))
def test_several_signals(folder: Path, numbers: tuple[signal.Signals, ...]) -> None:
    """Who stops services, or hangs up, sends more than one."""
    process = report_of_pipe(folder)
    with open(folder.parent / "pipe", "w"):
        for number in numbers:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode in (130, *(-number for number in numbers))
    assert (out, err) == (b"", b"")
    assert names(folder) == ["file"]
    assert (folder / "file").read_bytes() == OLD


def test_ignored_signals(folder: Path) -> None:
    """Under nohup, and in the background of a shell, work goes on."""
    process = report_of_pipe(folder, signal.SIG_IGN)
    with open(folder.parent / "pipe", "wb") as pipe:
        for number in ENDING:
            process.send_signal(number)
        time.sleep(0.1)
        pipe.write(SAVED.read_bytes())
    assert process.wait(60) == 0
    assert names(folder) == ["file"]
    assert (folder / "file").read_bytes().endswith(b"</html>\n")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Where pytest runs in the background, it ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupted_in_a_session(interruptible: None) -> None:
    """It ends the command, also where it is raised in vain; then all is as before."""
    before = [signal.getsignal(number) for number in ENDING]
    cleared: list[bool] = []
    for is_in_vain in (False, True):
        with pytest.raises(KeyboardInterrupt):
            with cleared_up_by_signals(lambda: cleared.append(True)):
                with contextlib.suppress(KeyboardInterrupt if is_in_vain else OSError):
                    signal.raise_signal(signal.SIGINT)
                    time.sleep(60)
    assert cleared == [True, True]
    assert [signal.getsignal(number) for number in ENDING] == before


def test_other_threads(tmp_path: Path) -> None:
    """Where Python handles no signals, files are written all the same."""
    thread = threading.Thread(target=write, args=[tmp_path / "file"])
    thread.start()
    thread.join()
    assert (tmp_path / "file").read_bytes() == b"new"


def signalled(
    command: list[str], folder: Path, number: signal.Signals, seconds: float
) -> tuple[int, bytes]:
    """Run a command, send it a signal, and return its status and what it said."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    time.sleep(seconds)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


@pytest.mark.parametrize("verb, end", [("slice", b""), ("report", b"</html>\n")])
def test_signals_at_random(
    folder: Path, verb: str, end: bytes, count: int = RANDOM_SIGNALS
) -> None:
    """Whenever one comes, also before the verb has begun or after it has ended."""
    core = str(samples()[-1].unpack(folder.parent / "vmcore"))
    drgn = [sys.executable, "-m", "drgn", "-q", "-c", core]
    command = [*drgn, str(ROOT / f"scripts/vmap_{verb}.py"), "-o", "file"]
    begin = time.monotonic()
    subprocess.run(command, cwd=folder, check=False)
    needed = time.monotonic() - begin
    whole = (folder / "file").read_bytes()
    assert whole != OLD and whole.endswith(end)
    draw = random.Random(verb)
    for _ in range(count):
        (folder / "file").write_bytes(OLD)
        number = draw.choice(ENDING)
        signalled(command, folder, number, draw.uniform(0, needed))
        assert names(folder) == ["file"]
        assert timeless((folder / "file").read_bytes()) in (OLD, timeless(whole))


def timeless(data: bytes) -> bytes:
    """Return a report without the minute that it was made in."""
    return re.sub(rb"\d\d:\d\d UTC", b"", data)
