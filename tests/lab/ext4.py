# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""ext4 images made and read by e2fsprogs: no mount, no root."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ("extract", "make_ext4")

MIB = 1 << 20


def make_ext4(
    image: Path, label: str, tree: Path | None = None, spare_mib: int = 8
) -> None:
    """
    Make an ext4 image that holds a directory tree, or nothing.

    :param spare_mib: what is left free in it.
    """
    files = [path.lstat() for path in tree.rglob("*")] if tree else []
    size_mib = spare_mib + sum(file.st_size for file in files) * 21 // 20 // MIB
    # Files take whole blocks, and an inode each.
    size_mib += len(files) // 100
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", label]
    # What is written to a snapshot is thrown away: a journal would be for nothing.
    command += ["-O", "^has_journal", "-N", str(len(files) + 2000)]
    if tree:
        command += ["-d", str(tree)]
    _run([*command, str(image), f"{size_mib}M"])


def extract(image: Path, path: str, file: Path) -> None:
    """
    Copy a file out of an ext4 image.

    :raises FileNotFoundError: if it is not there; debugfs does not say so by itself.
    """
    _run(["debugfs", "-R", f"dump {path} {file}", str(image)])
    if not file.exists():
        raise FileNotFoundError(f"{path} in {image}")


def _run(command: list[str]) -> None:
    # Debian keeps these programs out of an ordinary user's PATH.
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
