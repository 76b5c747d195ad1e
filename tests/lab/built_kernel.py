# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernels built from Debian's source of 6.1: as it is, with the vm_map_ram series of 6.3,
and with a block reader that returns the right page.

No distribution's kernel at hand has just the series: vmap_area_list with flags and
used_map, as many enterprise kernels do. The patches are in contrib/linux/.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .cache import build_once, cache_dir
from .chroot import WORK, ChrootError, run_in_tree, unpack_tools
from .kernel import Kernel
from .packages import Archive

__all__ = ("BuiltKernel",)

SUITES = ("bookworm", "bookworm-security")
SOURCE = "linux-source-6.1"
PACKAGES = (
    SOURCE,
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

VARIANTS = ("plain", "series", "fixed")
"""Each has the patches of its own directory on top of the one before."""

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
class BuiltKernel(Kernel):
    """A kernel built here; when the first one is asked for, all of them are."""

    @property
    def directory(self) -> Path:
        """Where everything made of this kernel is cached."""
        return _built() / self.name

    @property
    def files(self) -> Path:
        """What the build made."""
        return self.directory / "files"

    @property
    def module_tree(self) -> Path:
        """The tools that built the kernel, and what modules need of its source."""
        return _built() / "tree"


def _built() -> Path:
    recipe = hashlib.sha256(Path(__file__).read_bytes())
    for file in (CONFIG, *(p for variant in VARIANTS for p in _patches(variant))):
        recipe.update(file.read_bytes())
    target = cache_dir() / "kernels" / f"built-{recipe.hexdigest()[:12]}"
    return build_once(target, _build, replaces="built-*")


def _patches(variant: str) -> list[Path]:
    return sorted((PATCHES / f"6.1-{variant}").glob("*.patch"))


def _build(directory: Path) -> None:
    """
    Build the kernels one after the other, in one tree of source and objects.

    The first takes minutes, each other one a few seconds.
    """
    print("lab: building kernels from source, which takes minutes …", file=sys.stderr)
    directory.mkdir()
    tree = directory / "tree"
    unpack_tools(Archive(*SUITES), PACKAGES, tree)
    with TemporaryDirectory(dir=directory) as workspace:
        source = Path(workspace)
        _unpack_source(tree, source)
        _configure(tree, source)
        for variant in VARIANTS:
            for patch in _patches(variant):
                _apply(tree, source, patch)
            _make(tree, source, f"LOCALVERSION=-{variant}", "bzImage", "modules")
            _keep_files(source, directory / f"6.1-{variant}" / "files")
            _keep_module_build(source, tree)


def _unpack_source(tree: Path, source: Path) -> None:
    archive = f"usr/src/{SOURCE}.tar.xz"
    exclude = [f"--exclude={SOURCE}/{pattern}" for pattern in NOT_BUILT]
    tar = ["tar", "-xf", f"/{archive}", "-C", WORK, "--strip-components=1"]
    run_in_tree(tree, source, *tar, "--no-same-owner", *exclude)
    (tree / archive).unlink()


def _configure(tree: Path, source: Path) -> None:
    """Write .config; an option that is not there or has unmet needs is an error."""
    shutil.copy(CONFIG, source / "lab.config")
    _make(tree, source, f"KCONFIG_ALLCONFIG={WORK}/lab.config", "allnoconfig")
    chosen = (source / ".config").read_text().splitlines()
    wanted = [line for line in CONFIG.read_text().splitlines() if line[:1] not in "#"]
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
    ignore = shutil.ignore_patterns("*.[aco]", ".*.cmd")
    for name in ("arch/x86", "include", "scripts"):
        shutil.copytree(source / name, build / name, symlinks=True, ignore=ignore)
    for name in (".config", "Makefile", "Module.symvers", "tools/objtool/objtool"):
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, build / name)
