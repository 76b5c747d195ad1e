# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
One input in a process of its own: what goes wrong there is counted here, whatever it is.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import io
import itertools
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, Iterator, Mapping, Optional, Sequence

from drgn import Program

from drgn_vmap import commands

from .image import Image
from .inputs import Input
from .verdict import Failure, innermost, raised, wrong

__all__ = ("VMCORE", "Limits", "Outcome", "Target", "Trials")

VMCORE = "{vmcore}"
"""Stands in arguments for the name of the damaged vmcore's file."""
_MOST_OUTPUT = 512 << 20
_ABSURD_STATUS = 99

Run = Callable[[str, Optional[Program], Sequence[str]], int]


@dataclass(frozen=True)
class Limits:
    """What a run may take."""

    seconds: float = 10
    """Of CPU; three times as much if it sleeps."""
    resident: int = 1 << 30
    """Bytes beyond what the process had when the run began."""
    address_space: int = 2 << 30


@dataclass(frozen=True)
class Target:
    """A sample, and a program that knew its types and names before any damage."""

    image: Image
    program: Program


@dataclass
class Outcome:
    """What became of an input."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Of CPU that each run took, by verb."""
    statuses: list[tuple[str, Optional[int]]] = field(default_factory=list)
    """Each verb's exit status, None if it had none."""
    failures: list[Failure] = field(default_factory=list)
    unopened: bool = False
    """Whether drgn refused the vmcore, so that there was nothing to run."""


class Trials:
    """
    Tries inputs.

    :param targets: By name of the sample.
    :param run: What runs a verb, as :func:`drgn_vmap.commands.run` does.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        limits: Limits = Limits(),
        run: Run = commands.run,
    ) -> None:
        self._targets = targets
        self._limits = limits
        self._run = run

    def outcomes(
        self, inputs: Iterator[Input], jobs: int = 1
    ) -> Iterator[tuple[Input, Outcome]]:
        """Yield what became of each input, ``jobs`` of which are tried at a time."""
        gc.collect()
        # Of what is there already, no process needs a copy just to count references.
        gc.freeze()
        running: list[_Running] = []
        with TemporaryDirectory() as folder, selectors.DefaultSelector() as selector:
            try:
                while True:
                    for input_ in itertools.islice(inputs, jobs - len(running)):
                        one = self._start(input_, Path(folder))
                        running.append(one)
                        selector.register(one.pipe, selectors.EVENT_READ, one)
                    if not running:
                        return
                    for key, _ in selector.select(timeout=0.2):
                        one = key.data
                        if not one.read():
                            selector.unregister(one.pipe)
                            running.remove(one)
                            yield one.input, one.outcome()
                    for one in running:
                        one.kill_if_silent(3 * self._limits.seconds)
            finally:
                for one in running:
                    one.kill_if_silent(0)
                    one.outcome()

    def outcome(self, input_: Input) -> Outcome:
        """Return what became of one input."""
        return next(outcome for _, outcome in self.outcomes(iter([input_])))

    def _start(self, input_: Input, folder: Path) -> _Running:
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = os.pipe()
        dump = os.memfd_create("dump")
        place = Path(folder, f"{time.monotonic_ns()}")
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            status = _ABSURD_STATUS
            try:
                self._try(input_, place, _Teller(theirs), dump)
                status = 0
            except BaseException:
                _Teller(theirs).tell(broken=traceback.format_exc())
            finally:
                os._exit(status)
        os.close(theirs)
        return _Running(input_, pid, ours, dump, place)

    def _try(self, input_: Input, folder: Path, teller: _Teller, dump: int) -> None:
        """Be the process of an input."""
        folder.mkdir()
        os.chdir(folder)
        for name, content in input_.files:
            Path(name).write_bytes(bytes.fromhex(content))
        prog, name = None, ""
        if input_.sample:
            target = self._targets[input_.sample]
            if input_.fresh:
                try:
                    prog, name = target.image.open_file(input_.edits)
                except Exception:
                    teller.tell(unopened=True)
                    return
            else:
                target.image.damage(input_.edits)
                prog = target.program
        self._set_limits(dump)
        out, err = os.memfd_create("out"), os.memfd_create("err")
        for index, words in enumerate(input_.runs):
            argv = [word.replace(VMCORE, name) for word in words]
            teller.tell(begins=index)
            had = _begin_peak()
            begun = time.process_time()
            status, failures = self._ran(prog, argv, folder, out, err)
            taken = _resident("VmHWM") - had
            if taken > self._limits.resident:
                where = f"more than {self._limits.resident >> 20} MiB"
                told = f"{taken >> 20} MiB"
                failures.append(Failure("memory", where, argv[0], told))
            teller.tell(
                verb=argv[0],
                seconds=time.process_time() - begun,
                status=status if isinstance(status, int) else None,
                failures=[asdict(failure) for failure in failures],
            )

    def _ran(
        self,
        prog: Optional[Program],
        argv: Sequence[str],
        folder: Path,
        out: int,
        err: int,
    ) -> tuple[object, list[Failure]]:
        """Run a verb; return its exit status, if any, and what is wrong with it."""
        _make_odd_files(argv)
        before = set(os.listdir())
        signal.setitimer(signal.ITIMER_PROF, self._limits.seconds)
        try:
            with _redirected(out, err):
                status: object = self._run(argv[0], prog, argv[1:])
        except BaseException as e:
            return None, [raised(argv[0], e)]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        found = [*wrong(argv, status, _content(out), _content(err), folder)]
        left = set(os.listdir()) - before
        if status == 2 and left:
            found.append(Failure("left behind", "status 2", argv[0], f"{argv} {left}"))
        return status, found

    def _set_limits(self, dump: int) -> None:
        """Set what the process may take."""
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        faulthandler.enable(dump)
        # It dumps in the middle of numpy's and drgn's code as well, and then the
        # process dies of the signal.
        faulthandler.register(signal.SIGPROF, dump, chain=True)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + self._limits.address_space
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_OUTPUT, _MOST_OUTPUT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Teller:
    """The end of the pipe that the process of an input has."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def tell(self, **message: object) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._pipe, data) :]


class _Running:
    """The process of an input, seen from outside."""

    def __init__(
        self, input_: Input, pid: int, pipe: int, dump: int, folder: Path
    ) -> None:
        self.input = input_
        self.pipe = pipe
        self._pid = pid
        self._dump = dump
        self._folder = folder
        self._told = b""
        self._heard = time.monotonic()
        self._asleep = False

    def read(self) -> bool:
        """Read what there is; return whether there may be more."""
        data = os.read(self.pipe, 1 << 20)
        self._told += data
        self._heard = time.monotonic()
        return bool(data)

    def kill_if_silent(self, seconds: float) -> None:
        """End a process that was silent for so long, and waits for something."""
        # If it waits for a processor, there is a limit to what it may take of that.
        is_running = seconds and _is_running(self._pid)
        if time.monotonic() - self._heard > seconds and not is_running:
            self._asleep = True
            os.kill(self._pid, signal.SIGKILL)

    def outcome(self) -> Outcome:
        """
        Return what became of it, once it has ended.

        :raises RuntimeError: if something is wrong with these tests themselves.
        """
        _, status = os.waitpid(self._pid, 0)
        died = os.WIFSIGNALED(status)
        code = -os.WTERMSIG(status) if died else os.WEXITSTATUS(status)
        outcome, running = Outcome(), 0
        for line in self._told.splitlines():
            message = json.loads(line)
            if "broken" in message:
                raise RuntimeError(f"{self.input}\n{message['broken']}")
            running = message.get("begins", running)
            outcome.unopened |= "unopened" in message
            if "verb" in message:
                taken = outcome.seconds.setdefault(message["verb"], [])
                taken.append(message["seconds"])
                outcome.statuses.append((message["verb"], message["status"]))
                outcome.failures += [Failure(**one) for one in message["failures"]]
        if code:
            outcome.failures.append(self._death(code, self.input.runs[running][0]))
        os.close(self.pipe)
        os.close(self._dump)
        if self._folder.exists():
            shutil.rmtree(self._folder)
        return outcome

    def _death(self, code: int, verb: str) -> Failure:
        dump = _content(self._dump).decode("utf-8", "replace")
        if self._asleep:
            return Failure("hang", "asleep", verb, dump)
        if -code == signal.SIGPROF:
            return Failure("hang", f"in {innermost(dump)}", verb, dump)
        end = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return Failure("crash", f"{end} in {innermost(dump)}", verb, dump)


@contextlib.contextmanager
def _redirected(out: int, err: int) -> Iterator[None]:
    """Let the process's standard output and error be these files, emptied."""
    for fd, stream in ((out, 1), (err, 2)):
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.dup2(fd, stream)
    kept = sys.stdout, sys.stderr
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), "utf-8")
    sys.stderr = io.TextIOWrapper(
        open(2, "wb", closefd=False), "utf-8", errors="backslashreplace"
    )
    try:
        yield
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        sys.stdout, sys.stderr = kept


def _begin_peak() -> int:
    """
    Forget how much memory the process ever had; return how much it has, in bytes.

    What a process got from its parent, or an earlier run gave back, would hide as much.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(name: str) -> int:
    """Return the bytes that /proc/self/status gives for ``VmRSS`` or ``VmHWM``."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def _is_running(pid: int) -> bool:
    """Return whether a process is running, or would if there were a processor for it."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(") ")[2].startswith("R")


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _make_odd_files(argv: Sequence[str]) -> None:
    """Put in the folder what arguments name that is no ordinary new file."""
    for name, make in _ODD_FILES.items():
        if name in argv and not os.path.lexists(name):
            make(name)


_ODD_FILES: Mapping[str, Callable[[str], object]] = {
    "folder": os.mkdir,
    "there": lambda name: Path(name).write_bytes(b"old"),
    "link": lambda name: os.symlink("target", name),
    "fifo": os.mkfifo,
}
