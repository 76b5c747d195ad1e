# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether this machine can boot the lab's guests, and is to boot foreign ones."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess

import pytest

from .foreign_kernel import ForeignKernel
from .packages import PackageError, mirror

__all__ = ("need", "why_not")

#: It carries its types and names, so that all it takes is the kernel itself.
ALWAYS = "6.12-arm64"

PROGRAMS = (
    "apt-cache",
    "apt-get",
    "debugfs",
    "dpkg-deb",
    "git",
    "mke2fs",
    "qemu-system-x86_64",
    "setpriv",
    "tar",
)


def why_not() -> str | None:
    """Return what this machine lacks; None if guests can boot."""
    if platform.machine() != "x86_64":
        return (
            f"the lab's programs are for x86_64, this machine is {platform.machine()}"
        )
    missing = [
        program
        for program in PROGRAMS
        if not any(shutil.which(program, path=path) for path in (None, "/usr/sbin"))
    ]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        mirror(security=False), mirror(security=True)
    except PackageError as error:
        return str(error)
    return None


def need(kernel: ForeignKernel) -> None:
    """
    Skip where a kernel of another architecture is not to be tried: one is always, the
    others if they are cached or VMAP_FOREIGN=all asks for them. Where VMAP_REQUIRE names
    the lab, fail if that one can't be.
    """
    reason = _why_not_tried(kernel)
    if reason:
        required = "lab" in os.environ.get("VMAP_REQUIRE", "").split(",")
        end = pytest.fail if required and kernel.name == ALWAYS else pytest.skip
        end(f"{kernel.name}: {reason}")


def _qemu_version(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    found = re.search(r"version (\d+)", done.stdout)
    return int(found[1]) if found else 0


def _why_not_tried(kernel: ForeignKernel) -> str | None:
    architecture = kernel.architecture
    if not shutil.which(architecture.qemu):
        return f"{architecture.qemu} is not installed (package {architecture.package})"
    if _qemu_version(architecture.qemu) < architecture.oldest_qemu:
        return f"it takes QEMU {architecture.oldest_qemu}, which is not installed"
    asked = os.environ.get("VMAP_FOREIGN") == "all"
    if asked or kernel.name == ALWAYS or kernel.is_cached:
        return None
    return "it is not cached, and VMAP_FOREIGN=all not set"
