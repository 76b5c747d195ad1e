# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernels of arm64 that keep tags in their pointers, built from Debian's source.

No distribution ships one, but phones have KASAN_HW_TAGS.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from . import built_kernel, kernel_tree
from .cache import build_once, cache_dir
from .chroot import unpack_tools
from .foreign_kernel import ForeignKernel
from .kernel import Kernel
from .kernel_tree import KernelTree
from .packages import Archive

__all__ = ("TaggedKernel",)

SOURCE = "linux-source-6.12"
CONFIG = Path(__file__).with_name("tagged_kernel.config")


@dataclass(frozen=True)
class TaggedKernel(ForeignKernel):
    """A kernel built here for arm64; its suites have its source and a shell for it."""

    options: tuple[str, ...] = ()
    """Of its configuration, beyond those that all have."""

    @property
    def files(self) -> Path:
        """What the build made, with the tools that did, built when first asked for."""
        return build_once(self._target, self._build, replaces=f"{self.name}-*")

    @property
    def directory(self) -> Path:
        """Where everything made of this kernel is cached."""
        return self.files

    # Nothing of it is fetched later: they lie where those of most kernels do.
    vmlinux = Kernel.vmlinux
    modules = Kernel.modules

    @property
    def module_tree(self) -> Path:
        """The tools that built the kernel, and what modules need of its source."""
        return self.files / "tree"

    @property
    def is_cached(self) -> bool:
        """Whether it was built already."""
        return self._target.exists()

    @property
    def _target(self) -> Path:
        how = (self.suites, self.make_options, self.options)
        recipe = hashlib.sha256(repr(how).encode())
        for file in (
            Path(__file__),
            Path(kernel_tree.__file__),
            built_kernel.CONFIG,
            CONFIG,
        ):
            recipe.update(file.read_bytes())
        return cache_dir() / "kernels" / f"{self.name}-{recipe.hexdigest()[:12]}"

    def _build(self, directory: Path) -> None:
        print("lab: building a kernel of arm64, which takes minutes …", file=sys.stderr)
        directory.mkdir()
        tools = directory / "tree"
        compiler = f"{self.compiler}-{self.architecture.triplet}"
        packages = (SOURCE, *built_kernel.PACKAGES, compiler)
        unpack_tools(Archive(*self.suites), packages, tools)
        self._fetch_busybox(directory / "busybox")
        with TemporaryDirectory(dir=directory) as workspace:
            tree = KernelTree(tools, Path(workspace), self.make_options)
            tree.unpack(SOURCE)
            options = (built_kernel.CONFIG.read_text(), CONFIG.read_text())
            tree.configure((*"\n".join(options).splitlines(), *self.options))
            tree.make("LOCALVERSION=-tags", "Image", "modules")
            self._keep_files(tree, directory)

    def _keep_files(self, tree: KernelTree, files: Path) -> None:
        source, linux = tree.source, self.architecture.linux
        (files / "modules").mkdir()
        shutil.copy(source / "vmlinux", files)
        shutil.copy(source / "arch" / linux / "boot/Image", files / "vmlinuz")
        (files / "release").write_text(tree.release)
        build = tree.tools / "lib/modules" / tree.release / "build"
        ignore = shutil.ignore_patterns("*.[ao]", ".*.cmd")
        for name in (f"arch/{linux}", "include", "scripts"):
            shutil.copytree(source / name, build / name, symlinks=True, ignore=ignore)
        for name in (".config", "Makefile", "Module.symvers"):
            shutil.copy(source / name, build)
