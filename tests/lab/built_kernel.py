# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernels built from Debian's source packages, with patches from contrib/linux/ or none.

No distribution's kernel at hand has just the vm_map_ram series of 6.3: vmap_area_list
with flags and used_map, as many enterprise kernels do. None has a block reader that
returns the right page. And none is for one CPU, or has KASAN.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from . import kernel_tree
from .cache import build_once, cache_dir
from .chroot import unpack_tools
from .kernel import Kernel
from .kernel_tree import PATCHES, KernelTree
from .packages import Archive

__all__ = ("BuiltKernel", "KernelSource")

PACKAGES = (
    "bc",
    "bison",
    "diffutils",
    "dwarves",
    "findutils",
    "flex",
    "gcc",
    "gzip",
    "libelf-dev",
    "patch",
    "python3-minimal",
    "tar",
    "xz-utils",
)

CONFIG = Path(__file__).with_name("built_kernel.config")

PATCHED_HEADER = Path("include/linux/vmalloc.h")
PATCHED_STRUCT = b"vmap_area"


@dataclass(frozen=True)
class KernelSource:
    """Debian's source of a kernel, and what is built of it."""

    version: str
    """As in the package's name, such as ``6.1``."""

    suites: tuple[str, ...]
    """The suites that hold it and the tools to build it with."""

    variants: tuple[str, ...]
    """Each has the patches of its own directory, if any, on top of the one before."""

    options: tuple[str, ...]
    """Of its configuration, beyond those that all have, or instead of them."""

    make_options: tuple[str, ...] = ()
    """How make is told to build it, if not with gcc."""

    packages: tuple[str, ...] = ()
    """What that takes beyond what all need."""

    after: tuple[str, ...] = ()
    """Variants of the same version whose patches all of these have first."""

    @property
    def package(self) -> str:
        """The package that holds it."""
        return f"linux-source-{self.version}"

    @property
    def built(self) -> Path:
        """Where all that is made of it is cached, built when first asked for."""
        recipe = hashlib.sha256(repr(self).encode())
        variants = (*self.after, *self.variants)
        patches = (p for variant in variants for p in self.patches(variant))
        for file in (Path(__file__), Path(kernel_tree.__file__), CONFIG, *patches):
            recipe.update(file.read_bytes())
        name = "-".join(("built", self.version, *self.variants))
        target = cache_dir() / "kernels" / f"{name}-{recipe.hexdigest()[:12]}"
        return build_once(target, self._build, replaces=f"{name}-*")

    def patches(self, variant: str) -> list[Path]:
        """Return what a variant has beyond the one before."""
        return sorted((PATCHES / f"{self.version}-{variant}").glob("*.patch"))

    def _build(self, directory: Path) -> None:
        """
        Build the kernels one after the other, in one tree of source and objects.

        The first takes minutes, each other one a few seconds.
        """
        print(
            "lab: building kernels from source, which takes minutes …", file=sys.stderr
        )
        directory.mkdir()
        tools = directory / "tree"
        packages = (self.package, *PACKAGES, *self.packages)
        unpack_tools(Archive(*self.suites), packages, tools)
        with TemporaryDirectory(dir=directory) as workspace:
            tree = KernelTree(tools, Path(workspace), self.make_options)
            tree.unpack(self.package)
            for variant in self.after:
                for patch in self.patches(variant):
                    tree.patch(patch)
            tree.configure((*CONFIG.read_text().splitlines(), *self.options))
            for variant in self.variants:
                for patch in self.patches(variant):
                    _apply(tree, patch)
                tree.make(f"LOCALVERSION=-{variant}", "bzImage", "modules")
                kernel = directory / f"{self.version}-{variant}"
                _keep_files(tree, kernel / "files")
                _keep_module_build(tree)


@dataclass(frozen=True)
class BuiltKernel(Kernel):
    """A kernel built here; when the first one is asked for, all of its source are."""

    source: KernelSource

    @property
    def directory(self) -> Path:
        """Where everything made of this kernel is cached."""
        return self.source.built / self.name

    @property
    def files(self) -> Path:
        """What the build made."""
        return self.directory / "files"

    @property
    def make_options(self) -> tuple[str, ...]:
        """How make is told to build for it."""
        return self.source.make_options

    @property
    def module_tree(self) -> Path:
        """The tools that built the kernel, and what modules need of its source."""
        return self.source.built / "tree"


def _apply(tree: KernelTree, patch: Path) -> None:
    """
    Apply a patch, and see to it that make builds no more than it has to.

    Nearly everything includes the header that gives an area its flags, but hardly
    anything uses the struct. So the header stays as old as it was, and the objects go
    whose debug information speaks of the struct.
    """
    header = tree.source / PATCHED_HEADER
    before = header.stat()
    tree.patch(patch)
    os.utime(header, ns=(before.st_atime_ns, before.st_mtime_ns))
    for built in tree.source.rglob("*.o"):
        if PATCHED_STRUCT in built.read_bytes():
            built.unlink()


def _keep_files(tree: KernelTree, files: Path) -> None:
    source, modules = tree.source, files / "modules"
    modules.mkdir(parents=True)
    for name in ("modules.builtin", "modules.order"):
        shutil.copy(source / name, modules)
    shutil.copy(source / "vmlinux", files)
    shutil.copy(source / "arch/x86/boot/bzImage", files / "vmlinuz")
    (files / "release").write_text(tree.release)


def _keep_module_build(tree: KernelTree) -> None:
    """Copy what building a module needs of a kernel's source and objects."""
    source, build = tree.source, tree.tools / "lib/modules" / tree.release / "build"
    ignore = shutil.ignore_patterns("*.[ao]", ".*.cmd")
    for name in ("arch/x86", "include", "scripts"):
        shutil.copytree(source / name, build / name, symlinks=True, ignore=ignore)
    for name in (".config", "Makefile", "Module.symvers", "tools/objtool/objtool"):
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, build / name)
