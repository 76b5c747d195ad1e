# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernels built from Debian's source packages, with patches from contrib/linux/ or none.

No distribution's kernel at hand has just the vm_map_ram series of 6.3: vmap_area_list
with flags and used_map, as many enterprise kernels do. None has a block reader that
returns the right page.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Sequence

from .cache import build_once, cache_dir
from .chroot import WORK, ChrootError, run_in_tree, unpack_tools
from .kernel import Kernel
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
PATCHES = Path(__file__).parents[2] / "contrib" / "linux"

NOT_BUILT = (
    "Documentation/[a-z]*",
    "drivers/gpu/*.[ch]",
    "drivers/net/*.[ch]",
    "sound/*.c",
)
"""Half of the source, of which only Kconfig files and Makefiles are read."""

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
    """Each has the patches of its own directory on top of the one before."""

    options: tuple[str, ...]
    """Of its configuration, beyond those that all have."""

    @property
    def package(self) -> str:
        """The package that holds it."""
        return f"linux-source-{self.version}"

    @property
    def built(self) -> Path:
        """Where all that is made of it is cached, built when first asked for."""
        recipe = hashlib.sha256(repr(self).encode())
        patches = (p for variant in self.variants for p in self.patches(variant))
        for file in (Path(__file__), CONFIG, *patches):
            recipe.update(file.read_bytes())
        name = f"built-{self.version}"
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
        tree = directory / "tree"
        unpack_tools(Archive(*self.suites), (self.package, *PACKAGES), tree)
        with TemporaryDirectory(dir=directory) as workspace:
            source = Path(workspace)
            _unpack_source(tree, source, self.package)
            _configure(tree, source, self.options)
            for variant in self.variants:
                for patch in self.patches(variant):
                    _apply(tree, source, patch)
                _make(tree, source, f"LOCALVERSION=-{variant}", "bzImage", "modules")
                _keep_files(source, directory / f"{self.version}-{variant}" / "files")
                _keep_module_build(source, tree)


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
    def module_tree(self) -> Path:
        """The tools that built the kernel, and what modules need of its source."""
        return self.source.built / "tree"


def _unpack_source(tree: Path, source: Path, package: str) -> None:
    archive = f"usr/src/{package}.tar.xz"
    exclude = [f"--exclude={package}/{pattern}" for pattern in NOT_BUILT]
    tar = ["tar", "-xf", f"/{archive}", "-C", WORK, "--strip-components=1"]
    run_in_tree(tree, source, *tar, "--no-same-owner", *exclude)
    (tree / archive).unlink()


def _configure(tree: Path, source: Path, options: Sequence[str]) -> None:
    """Write .config; an option that is not there or has unmet needs is an error."""
    lines = [*CONFIG.read_text().splitlines(), *options]
    (source / "lab.config").write_text("\n".join((*lines, "")))
    _make(tree, source, f"KCONFIG_ALLCONFIG={WORK}/lab.config", "allnoconfig")
    chosen = (source / ".config").read_text().splitlines()
    wanted = [line for line in lines if line[:1] not in "#"]
    missing = [line for line in wanted if line not in chosen]
    if missing:
        raise ChrootError(f"{CONFIG.name}: no effect: {', '.join(missing)}")


def _apply(tree: Path, source: Path, patch: Path) -> None:
    """
    Apply a patch, and see to it that make builds no more than it has to.

    Nearly everything includes the header that gives an area its flags, but hardly
    anything uses the struct. So the header stays as old as it was, and the objects go
    whose debug information speaks of the struct.
    """
    header = (source / PATCHED_HEADER).stat()
    shutil.copy(patch, source)
    patched = f"--input={WORK}/{patch.name}"
    run_in_tree(tree, source, "patch", "-p1", f"--directory={WORK}", patched)
    os.utime(source / PATCHED_HEADER, ns=(header.st_atime_ns, header.st_mtime_ns))
    for built in source.rglob("*.o"):
        if PATCHED_STRUCT in built.read_bytes():
            built.unlink()


def _make(tree: Path, source: Path, *arguments: str) -> None:
    jobs = f"-j{os.cpu_count() or 1}"
    builder = ("KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab")
    run_in_tree(tree, source, "make", "-C", WORK, "-s", jobs, *builder, *arguments)


def _release(source: Path) -> str:
    return (source / "include/config/kernel.release").read_text().strip()


def _keep_files(source: Path, files: Path) -> None:
    modules = files / "modules"
    modules.mkdir(parents=True)
    for name in ("modules.builtin", "modules.order"):
        shutil.copy(source / name, modules)
    shutil.copy(source / "vmlinux", files)
    shutil.copy(source / "arch/x86/boot/bzImage", files / "vmlinuz")
    (files / "release").write_text(_release(source))


def _keep_module_build(source: Path, tree: Path) -> None:
    """Copy what building a module needs of a kernel's source and objects."""
    build = tree / "lib/modules" / _release(source) / "build"
    ignore = shutil.ignore_patterns("*.[ao]", ".*.cmd")
    for name in ("arch/x86", "include", "scripts"):
        shutil.copytree(source / name, build / name, symlinks=True, ignore=ignore)
    for name in (".config", "Makefile", "Module.symvers", "tools/objtool/objtool"):
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, build / name)
