# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A kernel of another architecture under QEMU: a shell, the fixture module, a vmcore.

There is no Python and no drgn in it: its vmcores are read on this machine.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from qemu.qmp.legacy import QEMUMonitorProtocol

from . import modules
from .disks import modules_in_order, pack
from .foreign_kernel import ForeignKernel
from .guest import CONSOLE_TAIL_LINES, GuestError

__all__ = ("ForeignGuest",)

BOOT_SECONDS = 240.0
COMMAND_SECONDS = 60.0
DUMP_SECONDS = 180.0
SOCKET_SECONDS = 30.0
DUMP_ATTEMPTS = 5
INIT = Path(__file__).with_name("foreign-init")
READY = b"lab: ready\n"
BEGIN, END = b"lab: begin\n", re.compile(rb"lab: end (\d+)\n")


class ForeignGuest:
    """
    A running guest with the fixture module loaded, until it is closed.

    :raises GuestError: if it does not boot.
    """

    def __init__(self, kernel: ForeignKernel) -> None:
        self.kernel = kernel
        self._directory = TemporaryDirectory(
            prefix=f"lab-{kernel.name}-", dir="/var/tmp"
        )
        directory = Path(self._directory.name)
        initramfs = directory / "initramfs"
        _write_initramfs(kernel, initramfs)
        self._console_socket = directory / "console"
        self._qmp_socket = directory / "qmp"
        self._seen = b""
        # Of a device without a network, and that it waits for us.
        self._warnings = directory / "warnings"
        with self._warnings.open("wb") as warnings:
            self._process = subprocess.Popen(
                self._command(initramfs),
                stdin=subprocess.DEVNULL,
                stderr=warnings,
            )
        self._qmp = QEMUMonitorProtocol(str(self._qmp_socket))
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the guest as a power cut would."""
        self._process.kill()
        self._process.wait()
        self._qmp.close()
        self._directory.cleanup()

    def run(self, command: str) -> bytes:
        """
        Let the guest's shell do something, and return what it printed.

        :raises GuestError: if it fails or takes too long.
        """
        start = len(self._seen)
        self._console.sendall(f"{command}\n".encode())
        end = self._wait_for(END, COMMAND_SECONDS, start)
        if end[1] != b"0":
            raise self._error(f"{command}: status {end[1].decode()}")
        begin = self._seen.index(BEGIN, start) + len(BEGIN)
        return self._seen[begin : end.start()]

    def read(self, path: str) -> bytes:
        """Return what a text file in the guest holds."""
        return self.run(f"show {path}")

    def dump_with_vmallocinfo(self, path: Path) -> bytes:
        """
        Write a vmcore and return what /proc/vmallocinfo held at that moment.

        :raises GuestError: if the file is another one after each dump.
        """
        for _ in range(DUMP_ATTEMPTS):
            before = self.read("/proc/vmallocinfo")
            path.unlink(missing_ok=True)
            self._qmp.cmd(
                "dump-guest-memory", paging=False, protocol=f"file:{path.absolute()}"
            )
            if self.read("/proc/vmallocinfo") == before:
                return before
        raise self._error("/proc/vmallocinfo changed during each of the dumps")

    def _command(self, initramfs: Path) -> list[str]:
        architecture = self.kernel.architecture
        # setpriv: a guest never outlives who started it.
        command = ["setpriv", "--pdeathsig", "KILL", "--", architecture.qemu]
        command += ["-accel", "tcg,thread=multi", *architecture.machine]
        command += ["-smp", "2", "-m", f"{architecture.memory_mib}M"]
        command += ["-nodefaults", "-display", "none", "-no-reboot"]
        console = f"socket,id=console,path={self._console_socket},server=on,wait=on"
        command += ["-chardev", console, "-serial", "chardev:console"]
        command += ["-qmp", f"unix:{self._qmp_socket},server=on,wait=off"]
        command += ["-kernel", str(self.kernel.vmlinuz), "-initrd", str(initramfs)]
        # quiet: what the kernel says would stand amidst what is read.
        name = architecture.console
        arguments = f"console={name} LAB_CONSOLE={name} quiet loglevel=1 panic=-1"
        return [*command, "-append", f"{arguments} {self.kernel.arguments}"]

    def _connect(self) -> None:
        deadline = time.monotonic() + SOCKET_SECONDS
        self._console = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self._console.connect(str(self._console_socket))
                break
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise self._error("QEMU did not start") from error
                time.sleep(0.02)
        self._wait_for(re.compile(re.escape(READY)), BOOT_SECONDS, 0)
        self._qmp.settimeout(DUMP_SECONDS)
        self._qmp.connect()

    def _wait_for(
        self, pattern: re.Pattern[bytes], seconds: float, start: int
    ) -> re.Match[bytes]:
        """Read the console until it shows something."""
        deadline = time.monotonic() + seconds
        while True:
            found = pattern.search(self._seen, start)
            if found:
                return found
            self._console.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                part = self._console.recv(1 << 16)
            except OSError as error:
                raise self._error("the guest does not answer") from error
            if not part:
                raise self._error("the guest is gone")
            self._seen += part.replace(b"\r", b"")

    def _error(self, what: str) -> GuestError:
        seen = self._warnings.read_bytes() + self._seen
        console = seen.decode(errors="replace").splitlines()
        tail = "\n".join(console[-CONSOLE_TAIL_LINES:])
        return GuestError(f"{self.kernel.name}: {what}; console:\n{tail}")


def _write_initramfs(kernel: ForeignKernel, file: Path) -> None:
    """Write an initramfs with a shell, the modules to load, and what starts them."""
    with TemporaryDirectory(dir=file.parent) as directory:
        root = Path(directory)
        for name in ("bin", "dev", "proc", "sys", "modules"):
            (root / name).mkdir()
        shutil.copy(INIT, root / "init")
        shutil.copy(kernel.busybox, root / "bin/busybox")
        loaded = modules_in_order(kernel, kernel.architecture.modules)
        for number, (name, contents) in enumerate(loaded):
            (root / "modules" / f"{number:02}-{name}.ko").write_bytes(contents)
        shutil.copy(modules.build(kernel), root / "modules/99-vmap_lab.ko")
        pack(root, file)
