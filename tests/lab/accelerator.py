# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether this machine's KVM really runs a guest, or QEMU has to emulate."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .architecture import AMD64, Architecture
from .cache import build_once, cache_dir
from .disks import initramfs
from .kernels import KERNELS

__all__ = ("accelerator",)

PROBE_SECONDS = 20.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def accelerator(architecture: Architecture) -> str:
    """Return QEMU's ``-accel``; KVM is tried once for each boot of this machine."""
    emulator = "tcg,thread=multi"
    if architecture != AMD64:
        return emulator
    known = cache_dir() / f"accelerator-{BOOT_ID.read_text().strip()}"
    build_once(known, _probe)
    return "kvm" if known.read_text() == "kvm" else emulator


def _probe(result: Path) -> None:
    result.write_text("kvm" if _kvm_works() else "tcg")


def _kvm_works() -> bool:
    """
    Boot a guest that powers itself off.

    A /dev/kvm that opens is not enough: nested in another virtual machine it may
    start guests that hang.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    kernel = KERNELS["6.1"]
    command = [AMD64.qemu, "-accel", "kvm", "-cpu", "host"]
    command += ["-smp", "2", "-m", "512", "-no-reboot", "-nographic", "-nic", "none"]
    command += ["-kernel", str(kernel.vmlinuz), "-initrd", str(initramfs(kernel))]
    command += ["-append", "console=ttyS0 panic=-1 rdinit=/bin/poweroff -- -f"]
    try:
        probe = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    return b"reboot: Power down" in probe.stdout
