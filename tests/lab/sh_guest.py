# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A kernel for sh under QEMU: a boot that shows files on the console, and ends.

There is no vmcore of it: QEMU does not dump the memory of this board, and drgn does not
know the architecture.
"""

from __future__ import annotations

import re
import subprocess

from .guest import CONSOLE_TAIL_LINES, GuestError
from .sh_kernel import ShKernel

__all__ = ("QEMU", "boot")

QEMU = "qemu-system-sh4"
BOOT_SECONDS = 240.0
# The board's first serial port is not the console.
MACHINE = ("-M", "r2d", "-serial", "null", "-serial", "stdio")
# quiet: what the kernel says would stand amidst what is read.
ARGUMENTS = "console=ttySC1,115200 noiotrap quiet loglevel=1 panic=-1"

_SHOWN = re.compile(r"^lab: begin (\S+)\n(.*?)^lab: end\n", re.M | re.S)


def boot(kernel: ShKernel) -> list[tuple[str, str]]:
    """
    Boot a kernel and return the files that its only program shows, by their paths.

    :raises GuestError: if something in the guest failed, or it did not end in time.
    """
    command = ["setpriv", "--pdeathsig", "KILL", "--", QEMU, *MACHINE]
    command += ["-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-kernel", str(kernel.image), "-initrd", str(kernel.initramfs)]
    try:
        done = subprocess.run(
            [*command, "-append", ARGUMENTS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=BOOT_SECONDS,
        )
        output, end = done.stdout, f"QEMU's status {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output, end = error.stdout or b"", "it did not end"
    text = output.decode(errors="replace").replace("\r", "")
    shown = _SHOWN.findall(text)
    if end != "QEMU's status 0" or "lab: failed" in text or not shown:
        tail = "\n".join(text.splitlines()[-CONSOLE_TAIL_LINES:])
        raise GuestError(f"{kernel.name}: {end}; console:\n{tail}")
    return shown
