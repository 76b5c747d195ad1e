# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel that Debian ships for another architecture."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .cache import build_once, cache_dir
from .chroot import unpack_tools
from .packaged_kernel import PackagedKernel, fetch_vmlinux
from .packages import Archive, unpack

__all__ = ("HASH_MMU", "ForeignKernel")

HASH_MMU = "disable_radix"
"""Makes a PowerPC translate by its hash table, which drgn does not know."""


@dataclass(frozen=True)
class ForeignKernel(PackagedKernel):
    """A kernel for another architecture, and what a guest of it needs beside it."""

    names_itself: bool = False
    """
    Whether it carries BTF and all symbols; else drgn needs its debug information, which
    takes hundreds of MB to fetch.
    """

    arguments: str = ""
    """More of its command line."""

    compiler: str = "gcc-12"
    """What built it; its suites have that for this machine as well."""

    cached_as: str = ""
    """The kernel it shares files with, if only their command lines differ."""

    @property
    def directory(self) -> Path:
        """Where everything made of this kernel is cached."""
        return cache_dir() / "kernels" / (self.cached_as or self.name)

    @property
    def busybox(self) -> Path:
        """The only program in a guest."""
        return self.files / "busybox"

    @property
    def vmlinux(self) -> Path:
        """The kernel with its debug information, fetched when first asked for."""
        return self._vmlinux(self.release)

    @property
    def modules(self) -> Path:
        """All of its modules, fetched when first asked for."""
        release = self.release
        return build_once(
            self.directory / f"modules-{release}",
            lambda directory: self._fetch_modules(release, directory),
        )

    @property
    def is_cached(self) -> bool:
        """Whether it was fetched already, with its debug information if it needs any."""
        found = self.directory.glob("files" if self.names_itself else "vmlinux-*")
        return any(found)

    @property
    def module_tree(self) -> Path:
        """Headers for it, beside this machine's build tools and a cross compiler."""
        return build_once(self.directory / f"headers-{self.release}", self._tools)

    @property
    def make_options(self) -> tuple[str, ...]:
        """How make is told to build for it."""
        triplet = self.architecture.triplet
        return (
            f"ARCH={self.architecture.linux}",
            f"CROSS_COMPILE={triplet}-",
            f"CC={triplet}-{self.compiler}",
        )

    def _vmlinux(self, release: str) -> Path:
        return build_once(
            self.directory / f"vmlinux-{release}",
            lambda file: fetch_vmlinux(self.archive, release, file),
        )

    def _fetch_release(self, release: str, directory: Path) -> None:
        """Fetch the image, a shell, and the debug information if nothing does without."""
        if not self.names_itself:
            self._vmlinux(release)
        self._fetch_busybox(directory / "busybox")
        self._fetch_image(release, directory)

    def _fetch_busybox(self, busybox: Path) -> None:
        with TemporaryDirectory(dir=busybox.parent) as unpacked:
            with self.archive.downloaded(["busybox-static"]) as [deb]:
                unpack(deb, Path(unpacked), ["*/bin/busybox"])
            [found] = Path(unpacked).rglob("bin/busybox")
            found.rename(busybox)

    def _fetch_image(self, release: str, directory: Path) -> None:
        image = self.architecture.image
        with TemporaryDirectory(dir=directory) as unpacked:
            with self.archive.downloaded([f"linux-image-{release}"]) as [deb]:
                unpack(deb, Path(unpacked), [f"./boot/{image}-*"])
            boot = Path(unpacked) / "boot"
            [vmlinuz] = boot.glob(f"{image}-{glob.escape(release)}")
            vmlinuz.rename(directory / "vmlinuz")

    def _fetch_modules(self, release: str, directory: Path) -> None:
        with TemporaryDirectory(dir=directory.parent) as unpacked:
            with self.archive.downloaded([f"linux-image-{release}"]) as [deb]:
                unpack(deb, Path(unpacked), ["*/modules/*"])
            [modules] = Path(unpacked).rglob(f"modules/{glob.escape(release)}")
            modules.rename(directory)

    def _tools(self, root: Path) -> None:
        host = Archive(*self.suites)
        release = self.release
        with self.archive.downloaded(self._header_packages(release)) as debs:
            kbuild = self._kbuild(release)
            cross = f"{self.compiler}-{self.architecture.triplet}"
            unpack_tools(host, [cross, kbuild], root)
            for deb in debs:
                unpack(deb, root)

    def _header_packages(self, release: str) -> list[str]:
        headers = f"linux-headers-{release}"
        common = [
            name
            for name in self.archive.direct_dependencies(headers)
            if name.endswith("-common")
        ]
        return [headers, *common]

    def _kbuild(self, release: str) -> str:
        [kbuild] = [
            name
            for name in self.archive.direct_dependencies(f"linux-headers-{release}")
            if name.startswith("linux-kbuild-")
        ]
        return kbuild
