# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The fixture module, built for each kernel of the lab.

A kernel's headers, the tools they bring and the compiler the kernel was built with
come from its own suite, and run in a tree of their own: the host need not have them,
and its C library may be older than theirs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from .cache import build_once
from .kernels import KERNELS, Kernel

__all__ = ("ModuleError", "build")

NAME = "vmap_lab"
SOURCES = tuple(
    Path(__file__).parent / "module" / name for name in ("Kbuild", f"{NAME}.c")
)

TOOLS = ("bash", "binutils", "coreutils", "dash", "grep", "make", "mawk", "sed")
"""What headers do not depend on: a Debian system has most of it."""

# objtool wants /proc, the compiler /dev/null. The mounts end with the namespace.
MAKE_IN_TREE = """
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/mnt"
exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin LC_ALL=C \
    make -C "/lib/modules/$3/build" M=/mnt modules
"""


class ModuleError(Exception):
    """The module does not build; what make printed is in the text."""


def build(kernel_name: str) -> Path:
    """
    Return ``vmap_lab.ko`` for a kernel of the lab, built once for each source text.

    :raises ModuleError: if it does not build.
    """
    kernel = KERNELS[kernel_name]
    recipe = hashlib.sha256(kernel.release.encode())
    for file in (Path(__file__), *SOURCES):
        recipe.update(file.read_bytes())
    return build_once(
        kernel.directory / f"{NAME}-{recipe.hexdigest()[:12]}.ko",
        lambda module: _build(kernel, module),
    )


def _build(kernel: Kernel, module: Path) -> None:
    with TemporaryDirectory(dir=module.parent) as workspace:
        for source in SOURCES:
            shutil.copy(source, workspace)
        _make(kernel, _tree(kernel), Path(workspace))
        shutil.move(Path(workspace) / f"{NAME}.ko", module)


def _tree(kernel: Kernel) -> Path:
    """Return a directory tree in which modules for a kernel can be built."""

    def unpack_tree(root: Path) -> None:
        packages = (f"linux-headers-{kernel.release}", *TOOLS)
        kernel.archive.unpack_tree(packages, root)
        for mount_point in ("dev", "proc", "mnt"):
            (root / mount_point).mkdir(exist_ok=True)
        # A maintainer script would make mawk the one of several awks.
        (root / "usr/bin/awk").symlink_to("mawk")

    return build_once(kernel.directory / f"headers-{kernel.release}", unpack_tree)


def _make(kernel: Kernel, root: Path, workspace: Path) -> None:
    command = ["unshare", "--mount", "--pid", "--fork"]
    if os.geteuid():
        command.append("--map-root-user")
    command += ["sh", "-ec", MAKE_IN_TREE, "sh", str(root), str(workspace)]
    result = subprocess.run(
        [*command, kernel.release],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        raise ModuleError(f"{kernel.name}: {result.stdout}")
