# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real kernel under QEMU, with the checkout, Python and drgn in it."""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
import tempfile
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Callable, Iterator, Mapping, TypeVar

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from tests.sources import ROOT, tracked

from . import kdump_header
from .channel import Answer, Channel, ChannelError
from .command_line import Hardware, Sockets, arguments, qemu_command
from .disks import initramfs
from .ext4 import extract, make_ext4
from .kernel import Kernel
from .kernels import ALL_KERNELS

__all__ = ("CommandTimeout", "Guest", "GuestError", "Result")

BOOT_SECONDS = 180.0
COMMAND_SECONDS = 120.0
CRASH_SECONDS = 180.0
DUMP_SECONDS = 180.0
QMP_SECONDS = 30.0
KPTR_RESTRICT = "/proc/sys/kernel/kptr_restrict"
SOCKET_SECONDS = 30.0
CONSOLE_TAIL_LINES = 80
DUMP_ATTEMPTS = 10
VMALLOCINFO = "/proc/vmallocinfo"

T = TypeVar("T")


class GuestError(Exception):
    """The guest did not boot, is stuck or is gone; its console is in the text."""


class CommandTimeout(Exception):
    """A command in the guest took too long and was killed; the guest still runs."""


@dataclass(frozen=True)
class Result:
    """What a command in the guest did."""

    stdout: bytes
    stderr: bytes
    status: int
    """The exit status; negative: killed by that signal."""

    samples: tuple[bytes, ...]
    """The different contents of the sampled file, oldest first."""


class Guest:
    """
    A running guest: a context manager that ends it.

    >>> with Guest.boot("6.1", cpus=4) as guest:
    ...     guest.run("uname -r").stdout
    b'6.1.0-56-cloud-amd64\\n'
    """

    def __init__(self, kernel: Kernel, hardware: Hardware, interactive: bool) -> None:
        self.kernel = kernel
        self._workspace = tempfile.TemporaryDirectory(
            prefix=f"lab-{kernel.name}-", dir="/var/tmp"
        )
        directory = Path(self._workspace.name)
        self._console = directory / "console"
        self._console.touch()
        self._last_console: str | None = None
        self._sockets = Sockets(
            directory / "agent", directory / "qmp", directory / "qmp-for-others"
        )
        self._scratch = directory / "scratch" if hardware.crash_kernel else None
        if self._scratch:
            make_ext4(self._scratch, "scratch", spare_mib=hardware.memory_mib)
        serial = "mon:stdio" if interactive else f"file:{self._console}"
        self._process = subprocess.Popen(
            qemu_command(kernel, hardware, self._sockets, serial, self._scratch),
            stdin=None if interactive else subprocess.DEVNULL,
        )
        self._channel: Channel | None = None
        self._qmp = QEMUMonitorProtocol(str(self._sockets.qmp))
        self._guarded(self._connect)

    @classmethod
    def boot(
        cls,
        kernel: str,
        *,
        cpus: int = 2,
        memory_mib: int = 1024,
        numa_nodes: int = 1,
        append: str = "",
        debug_info: bool = True,
        crash_kernel: bool = False,
        qemu: tuple[str, ...] = (),
        interactive: bool = False,
    ) -> Guest:
        """
        Boot a kernel of the lab, by its name, with the checkout at /vmap.

        :param append: more of the kernel command line.
        :param debug_info: whether drgn finds a vmlinux in the guest.
        :param crash_kernel: whether it is prepared for :meth:`crash()`.
        :param qemu: more of QEMU's command line.
        :param interactive: whether its console is this process's terminal.
        :raises GuestError: if the guest does not come up in time, twice.
        """
        hardware = Hardware(
            cpus, memory_mib, numa_nodes, append, debug_info, crash_kernel, qemu
        )
        try:
            return cls(ALL_KERNELS[kernel], hardware, interactive)
        except GuestError as error:
            # Under emulation a kernel now and then panics while it boots.
            warnings.warn(f"booting again: {error}", stacklevel=2)
            return cls(ALL_KERNELS[kernel], hardware, interactive)

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the guest as a power cut would; its console can still be read."""
        if self._last_console is not None:
            return
        self._process.kill()
        self._process.wait()
        self._last_console = self.console
        self._qmp.close()
        if self._channel:
            self._channel.close()
        self._workspace.cleanup()

    @property
    def release(self) -> str:
        """What ``uname -r`` prints in the guest."""
        return self.kernel.release

    @property
    def vmlinux(self) -> Path:
        """The kernel with debug information, on the host."""
        return self.kernel.vmlinux

    @property
    def qmp_socket(self) -> Path:
        """A QMP socket nobody here uses, for ``drgn --qemu``."""
        return self._sockets.qmp_for_others

    @property
    def console(self) -> str:
        """All that the guest's console has shown."""
        if self._last_console is not None:
            return self._last_console
        return self._console.read_text(errors="replace").replace("\r", "")

    def run(
        self,
        command: str,
        timeout: float = COMMAND_SECONDS,
        *,
        cwd: str = "/vmap",
        env: Mapping[str, str] | None = None,
        sample: str | None = None,
    ) -> Result:
        """
        Run a command with bash.

        :param timeout: in seconds.
        :param env: added to the environment.
        :param sample: a file that the agent reads, without a fork, before, while and
            after the command runs.
        :raises CommandTimeout: if it takes longer; it is then killed.
        :raises GuestError: if the guest is stuck or ended meanwhile.
        """
        answer = self._ask(
            timeout,
            function="run",
            command=command,
            timeout_seconds=timeout,
            cwd=cwd,
            env=dict(env or {}),
            sample=sample,
        )
        if "timed_out" in answer.end:
            raise CommandTimeout(f"longer than {timeout} s: {command}")
        status = answer.end["status"]
        return Result(answer.stdout, answer.stderr, status, answer.samples)

    def start(self, command: str, output: str) -> int:
        """
        Start a command beside others, and return its process group.

        :param output: a file, there at once, of what it says and of "exit" and its status.
        """
        self.write(output, b"")
        # What a script starts with & would ignore Ctrl-C.
        command = f"env --default-signal=INT {command}; echo exit $?"
        apart = f"setsid bash -c {shlex.quote(command)}"
        return int(self.run(f"{apart} </dev/null >{output} 2>&1 & echo $!").stdout)

    def interrupt(self, group: int) -> None:
        """End a command that was started, as Ctrl-C does."""
        assert self.run(f"kill -INT -- -{group}").status == 0

    def wait_until_said(
        self, output: str, wanted: bytes, timeout: float = COMMAND_SECONDS
    ) -> bytes:
        """
        Return what a command that was started said, once that has what is wanted.

        :raises CommandTimeout: if it takes longer.
        """
        deadline = time.monotonic() + timeout
        while wanted not in (said := self.read(output)):
            if time.monotonic() > deadline:
                raise CommandTimeout(f"no {wanted!r} within {timeout} s: {said!r}")
            time.sleep(1)
        return said

    def read(self, path: str, timeout: float = COMMAND_SECONDS) -> bytes:
        """
        Return what a file in the guest holds; no process is started for it.

        :raises OSError: if it cannot be read.
        """
        return self._ask(timeout, function="read", path=path).stdout

    def write(
        self,
        path: str,
        data: bytes,
        mode: int = 0o644,
        timeout: float = COMMAND_SECONDS,
    ) -> None:
        """
        Write a file in the guest, or one of /proc or /sys; nothing is forked.

        :raises OSError: if it cannot be written.
        """
        self._ask(timeout, data=data, function="write", path=path, mode=mode)

    def put(self, file: Path, path: str) -> None:
        """Copy a file of the host into the guest, with its permissions."""
        self.write(path, file.read_bytes(), file.stat().st_mode & 0o777)

    def get(self, path: str, file: Path) -> None:
        """Copy a file of the guest to the host."""
        file.write_bytes(self.read(path))

    def dump(self, path: Path, format: str = "elf") -> None:
        """
        Write a vmcore of the guest, which stands still meanwhile.

        :param format: one of QMP's: ``elf``, ``kdump-zlib``.
        """
        path.unlink(missing_ok=True)
        self._qmp_command(
            "dump-guest-memory",
            DUMP_SECONDS,
            paging=False,
            protocol=f"file:{path.absolute()}",
            format=format,
        )
        if format.startswith("kdump"):
            names = ("ostype", "hostname", "osrelease", "version")
            kdump_header.set_names(
                path, *(self.read(f"/proc/sys/kernel/{name}").strip() for name in names)
            )

    @contextmanager
    def real_addresses(self) -> Iterator[None]:
        """Let /proc/vmallocinfo show them meanwhile."""
        before = self.read(KPTR_RESTRICT)
        self.write(KPTR_RESTRICT, b"1")
        try:
            yield
        finally:
            self.write(KPTR_RESTRICT, before)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let none of its processors run; its memory can be read from outside."""
        self._qmp_command("stop", QMP_SECONDS)
        try:
            yield
        finally:
            self._qmp_command("cont", QMP_SECONDS)

    def dump_with_vmallocinfo(self, path: Path, format: str = "elf") -> bytes:
        """
        Write a vmcore and return what /proc/vmallocinfo held at that moment.

        The file is read before and after, and the guest dumped again until both are
        the same.

        :raises GuestError: if the guest never is that quiet.
        """
        for _ in range(DUMP_ATTEMPTS):
            before = self.read(VMALLOCINFO)
            self.dump(path, format)
            if self.read(VMALLOCINFO) == before:
                return before
        raise self._error(f"{VMALLOCINFO} changed during each of the dumps")

    def wait_until_off(self) -> None:
        """Wait until somebody at the console has ended the guest."""
        self._process.wait()

    def crash(self, path: Path) -> bytes:
        """
        Crash the guest, as production machines do, and keep what its kdump saves.

        The crash kernel writes the vmcore with makedumpfile, zlib compressed and
        without free, user and cache pages. The guest ends.

        :return: What /proc/vmallocinfo held just before.
        :raises GuestError: if there is no vmcore.
        """
        self._load_crash_kernel()
        vmallocinfo = self.read(VMALLOCINFO)
        assert self._channel and self._scratch
        self._channel.send(
            COMMAND_SECONDS,
            b"c",
            function="write",
            path="/proc/sysrq-trigger",
            mode=0,
        )
        try:
            self._process.wait(CRASH_SECONDS)
            extract(self._scratch, "/vmcore", path)
        except (subprocess.TimeoutExpired, FileNotFoundError) as error:
            raise self._error("the crash kernel saved no vmcore") from error
        finally:
            self.close()
        return vmallocinfo

    def _load_crash_kernel(self) -> None:
        self.put(self.kernel.vmlinuz, "/tmp/vmlinuz")
        self.put(initramfs(self.kernel), "/tmp/initramfs")
        loaded = self.run(
            "kexec -p vmlinuz --initrd=initramfs --append="
            f"'{arguments(self.kernel)} nr_cpus=1 reset_devices' && sync",
            cwd="/tmp",
        )
        if loaded.status:
            raise self._error(f"kexec: {loaded.stderr.decode(errors='replace')}")

    def _connect(self) -> None:
        """Wait for QEMU, then for the agent, then bring the checkout in."""
        self._qmp.settimeout(QMP_SECONDS)
        self._wait_for(self._sockets.qmp)
        self._qmp.connect()
        self._wait_for(self._sockets.agent)
        self._channel = Channel(self._sockets.agent)
        self._channel.receive(BOOT_SECONDS)
        self._send_checkout()

    def _wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + SOCKET_SECONDS
        while not path.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ChannelError("QEMU did not start")
            time.sleep(0.02)

    def _send_checkout(self) -> None:
        """Unpack in /vmap what git tracks, as it is now, and what it could track."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name in tracked():
                tar.add(ROOT / name, name, recursive=False)
        self.write("/tmp/checkout.tar", archive.getvalue())
        unpack = "tar -xf checkout.tar -C /vmap --no-same-owner && rm checkout.tar"
        if self.run(unpack, cwd="/tmp").status:
            raise ChannelError("the checkout could not be unpacked")

    def _ask(
        self, timeout: float, data: bytes | None = None, **request: object
    ) -> Answer:
        assert self._channel
        channel = self._channel
        return self._guarded(lambda: channel.ask(timeout, data, **request))

    def _qmp_command(self, command: str, timeout: float, **arguments: object) -> object:
        self._qmp.settimeout(timeout)
        return self._guarded(lambda: self._qmp.cmd(command, **arguments))

    def _guarded(self, action: Callable[[], T]) -> T:
        """Do something with the guest; end the guest if that fails."""
        try:
            return action()
        except (ChannelError, QMPError, TimeoutError) as error:
            failure = self._error(str(error) or type(error).__name__)
            self.close()
            raise failure from error
        except KeyboardInterrupt:
            self.close()
            raise

    def _error(self, what: str) -> GuestError:
        tail = "\n".join(self.console.splitlines()[-CONSOLE_TAIL_LINES:])
        return GuestError(f"{self.kernel.name}: {what}; console:\n{tail}")
