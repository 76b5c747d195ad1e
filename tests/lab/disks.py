# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a guest boots from: initramfs, and disks with modules and debug info.

The root disk is in ``userland``. All are made without root and without mounts: mke2fs
copies directory trees into images.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator, Sequence

from . import userland
from .cache import build_once
from .ext4 import make_ext4
from .kernel import Kernel

__all__ = ("debug_disk", "initramfs", "modules_disk", "modules_in_order", "pack")

INSIDE = Path(__file__).parent / "inside"

INITRAMFS_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "qemu_fw_cfg",
    "crc32c_generic",
    "ext4",
)
"""
Of these, what is not built in. Without qemu_fw_cfg the guest never tells QEMU its
VMCOREINFO; ext4 asks for crc32c by its name.
"""


def initramfs(kernel: Kernel) -> Path:
    """Return the initramfs that finds a kernel's root disk and brings the agent."""
    recipe = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(INSIDE.glob("*")):
        if file.is_file():
            recipe.update(file.read_bytes())
    return build_once(
        kernel.directory / f"initramfs-{recipe.hexdigest()[:12]}",
        lambda file: _build_initramfs(kernel, file),
        replaces="initramfs-*",
    )


def modules_disk(kernel: Kernel) -> Path:
    """Return the image to mount at /lib/modules."""

    def build(image: Path) -> None:
        with TemporaryDirectory(dir=image.parent) as base:
            modules = Path(base) / "lib/modules"
            shutil.copytree(
                kernel.modules, modules / kernel.release, copy_function=os.link
            )
            userland.run_on_host(
                "usr/bin/kmod", "-b", base, kernel.release, name="depmod"
            )
            make_ext4(image, "modules", modules)

    return build_once(kernel.directory / "modules.ext4", build)


def debug_disk(kernel: Kernel) -> Path:
    """Return the image to mount at /usr/lib/debug, where drgn finds vmlinux."""

    def build(image: Path) -> None:
        with TemporaryDirectory(dir=image.parent) as tree:
            boot = Path(tree) / "boot"
            boot.mkdir()
            os.link(kernel.vmlinux, boot / f"vmlinux-{kernel.release}")
            make_ext4(image, "debug", Path(tree))

    return build_once(kernel.directory / "debug.ext4", build)


def _build_initramfs(kernel: Kernel, file: Path) -> None:
    with TemporaryDirectory(dir=file.parent) as directory:
        root = Path(directory)
        for name in ("bin", "dev", "proc", "sys", "root", "modules"):
            (root / name).mkdir()
        shutil.copy(userland.busybox(kernel.architecture), root / "bin")
        for applet in userland.busybox_applets(userland.busybox()):
            (root / "bin" / applet).symlink_to("busybox")
        shutil.copytree(
            INSIDE, root / "lab", ignore=shutil.ignore_patterns("__pycache__")
        )
        # Not a link to it: / is sticky, where the kernel follows no link of another
        # user, and all here belongs to whoever built this.
        shutil.copy(INSIDE / "initramfs-init", root / "init")
        modules = modules_in_order(kernel, INITRAMFS_MODULES)
        for number, (name, contents) in enumerate(modules):
            (root / "modules" / f"{number:02}-{name}.ko").write_bytes(contents)
        pack(root, file)


def pack(root: Path, file: Path) -> None:
    """Make an initramfs of a directory tree."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    with open(file, "wb") as archive:
        subprocess.run(
            [userland.busybox(), "cpio", "-o", "-H", "newc"],
            cwd=root,
            input="\n".join(names).encode(),
            stdout=archive,
            stderr=subprocess.DEVNULL,
            check=True,
        )


def modules_in_order(
    kernel: Kernel, wanted: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of modules to load, what they depend on before them."""
    seen = set()

    def visit(name: str) -> Iterator[tuple[str, bytes]]:
        if name in seen:
            return
        seen.add(name)
        pattern = re.sub("[-_]", "[-_]", name)
        # What is built in has no file.
        for path in kernel.modules.rglob(f"{pattern}.ko*"):
            contents = path.read_bytes()
            if path.suffix == ".xz":
                contents = lzma.decompress(contents)
            depends = re.search(rb"\0depends=([^\0]*)\0", contents)
            if depends and depends[1]:
                for needed in depends[1].decode().split(","):
                    yield from visit(needed)
            yield name, contents

    for name in wanted:
        yield from visit(name)
