# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Debian trees with a compiler, and commands that run in them.

A kernel and its modules are built with the tools of a suite of their own: the host
need not have them, and its C library may be older than theirs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Sequence

from .packages import Archive

__all__ = ("ChrootError", "WORK", "run_in_tree", "unpack_tools")

WORK = "/mnt"
"""Where a command finds the directory it works in."""

TOOLS = ("bash", "binutils", "coreutils", "dash", "grep", "make", "mawk", "sed")
"""What compilers and headers do not depend on: a Debian system has most of it."""

# objtool wants /proc, the compiler /dev/null. The mounts end with the namespace.
MOUNT_AND_RUN = """
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/mnt"
root=$1
shift 2
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin LC_ALL=C "$@"
"""


class ChrootError(Exception):
    """A command in a tree failed; what it printed is in the text."""


def unpack_tools(archive: Archive, packages: Sequence[str], root: Path) -> None:
    """Unpack packages, with what a build needs beside them, to run commands in."""
    archive.unpack_tree((*packages, *TOOLS), root)
    for mount_point in ("dev", "proc", "mnt"):
        (root / mount_point).mkdir(exist_ok=True)
    # A maintainer script would make mawk the one of several awks.
    (root / "usr/bin/awk").symlink_to("mawk")


def run_in_tree(root: Path, work: Path, *command: str) -> None:
    """
    Run a command in a tree, with the directory ``work`` at :data:`WORK`.

    :raises ChrootError: if it fails.
    """
    unshare = ["unshare", "--mount", "--pid", "--fork"]
    if os.geteuid():
        unshare.append("--map-root-user")
    result = subprocess.run(
        [*unshare, "sh", "-ec", MOUNT_AND_RUN, "sh", str(root), str(work), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if result.returncode:
        raise ChrootError(f"{' '.join(command)}: {result.stdout}")
