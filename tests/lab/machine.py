# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether this machine can boot the lab's guests at all."""

from __future__ import annotations

import platform
import shutil

from .packages import PackageError, mirror

__all__ = ("why_not",)

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
