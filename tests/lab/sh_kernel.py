# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernels for sh, built from Debian's source of 6.1: as it is, and with what the vm_map_ram
series changed there, the mark of a store queue's area.

Debian has sh compilers but no kernel and no programs for it, so the initramfs holds a
program of our own, and a module that calls sq_remap().
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from . import kernel_tree
from .cache import build_once, cache_dir
from .chroot import WORK, run_in_tree, unpack_tools
from .kernel_tree import PATCHES, KernelTree
from .packages import Archive, unpack

__all__ = ("SH_KERNELS", "ShKernel")

SOURCE = "linux-source-6.1"
SOURCE_SUITES = ("bookworm", "bookworm-security")
# Where the tools are: gcc 12 of bookworm leaves out tests of pointers for sh.
SUITES = ("trixie", "trixie-security")
COMPILER = "gcc-13"
TRIPLET = "sh4-linux-gnu"
TARGET = ("ARCH=sh", f"CROSS_COMPILE={TRIPLET}-", f"CC={TRIPLET}-{COMPILER}")
PACKAGES = (
    "bc",
    "bison",
    "diffutils",
    "findutils",
    "flex",
    "gcc",
    f"{COMPILER}-{TRIPLET}",
    "gzip",
    "libc6-dev",
    "patch",
    "tar",
    "xz-utils",
)

HERE = Path(__file__).parent
CONFIG = HERE / "sh_kernel.config"
INIT = HERE / "sh-init.c"
MODULE = HERE / "module" / "sh"
PATCH = PATCHES / "6.1-sh" / "0001-store-queues.patch"

INITRAMFS = """\
dir /dev 0755 0 0
nod /dev/console 0600 0 0 c 5 1
dir /proc 0755 0 0
dir /sys 0755 0 0
file /init init 0755 0 0
file /sq_user.ko sq_user.ko 0644 0 0
"""

# gen_init_cpio is made with the kernel, as are the numbers of its system calls.
MAKE_INITRAMFS = f"""
cd {WORK}/guest
uapi=arch/sh/include
{TRIPLET}-{COMPILER} -Os -Wall -Werror -ffreestanding -fno-pic -no-pie -static -nostdlib \\
    -I {WORK}/$uapi/uapi -I {WORK}/$uapi/generated/uapi -o init {INIT.name} -lgcc
{WORK}/usr/gen_init_cpio list >initramfs
"""


@dataclass(frozen=True)
class ShKernel:
    """A kernel for QEMU's r2d board; when the first is asked for, both are built."""

    name: str
    """What the lab calls it."""

    has_patch: bool
    """Whether the area of a store queue is marked VM_IOREMAP, as patch 7 has it."""

    @property
    def is_built(self) -> bool:
        """Whether it was built already."""
        return _target().exists()

    @property
    def release(self) -> str:
        """What ``uname -r`` prints."""
        return (self._directory / "release").read_text()

    @property
    def debian_architecture(self) -> str:
        """What machines it is for, as Debian calls them."""
        return "sh4"

    @property
    def image(self) -> Path:
        """What QEMU boots."""
        return self._directory / "zImage"

    @property
    def initramfs(self) -> Path:
        """What there is beside it."""
        return self._directory / "initramfs"

    @property
    def _directory(self) -> Path:
        return build_once(_target(), _build, replaces="sh-*") / self.name


SH_KERNELS = {
    kernel.name: kernel
    for kernel in (
        ShKernel("6.1-sh-plain", has_patch=False),
        ShKernel("6.1-sh-series", has_patch=True),
    )
}


def _target() -> Path:
    recipe = hashlib.sha256()
    makers = (Path(__file__), Path(kernel_tree.__file__))
    for file in (*makers, CONFIG, INIT, PATCH, *sorted(MODULE.iterdir())):
        recipe.update(file.read_bytes())
    return cache_dir() / "kernels" / f"sh-{recipe.hexdigest()[:12]}"


def _build(directory: Path) -> None:
    """Build one kernel after the other, in one tree of source and objects."""
    print("lab: building kernels for sh, which takes minutes …", file=sys.stderr)
    directory.mkdir()
    with TemporaryDirectory(dir=directory) as workspace:
        tree = KernelTree(Path(workspace) / "tree", Path(workspace) / "source", TARGET)
        tree.source.mkdir()
        unpack_tools(Archive(*SUITES), PACKAGES, tree.tools)
        with Archive(*SOURCE_SUITES).downloaded([SOURCE]) as [deb]:
            unpack(deb, tree.tools, [f"./usr/src/{SOURCE}.tar.xz"])
        tree.unpack(SOURCE)
        tree.configure(CONFIG.read_text().splitlines())
        for kernel in SH_KERNELS.values():
            if kernel.has_patch:
                tree.patch(PATCH)
            tree.make(f"LOCALVERSION=-{kernel.name[4:]}", "zImage", "modules")
            _keep_files(tree, directory / kernel.name)


def _keep_files(tree: KernelTree, directory: Path) -> None:
    guest = tree.source / "guest"
    shutil.copytree(MODULE, guest, dirs_exist_ok=True)
    tree.make(f"M={WORK}/guest", "modules")
    shutil.copy(INIT, guest)
    (guest / "list").write_text(INITRAMFS)
    run_in_tree(tree.tools, tree.source, "sh", "-ec", MAKE_INITRAMFS)
    directory.mkdir()
    shutil.copy(tree.source / "arch/sh/boot/zImage", directory)
    shutil.copy(guest / "initramfs", directory)
    (directory / "release").write_text(tree.release)
