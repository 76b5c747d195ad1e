# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel that Debian ships for another architecture."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .architecture import Architecture
from .cache import build_once, cache_dir
from .chroot import unpack_tools
from .debian_kernel import fetch_vmlinux
from .kernel import Kernel
from .packages import Archive, PackageError, unpack

__all__ = ("ForeignKernel",)

HOST_SUITES = ("bookworm", "bookworm-security")
"""Where the compilers are that run on this machine, and built these kernels."""

COMPILER = "gcc-12"


@dataclass(frozen=True)
class ForeignKernel(Kernel):
    """A kernel for another architecture, and what a guest of it needs beside it."""

    architecture: Architecture

    suites: tuple[str, ...]
    """The suites that hold its packages."""

    releases: str
    """POSIX pattern of ``uname -r``; the newest one is taken that can be had."""

    names_itself: bool = False
    """
    Whether it carries BTF and all symbols; else drgn needs its debug information, which
    takes hundreds of MB to fetch.
    """

    @property
    def directory(self) -> Path:
        """Where everything made of this kernel is cached."""
        return cache_dir() / "kernels" / self.name

    @property
    def files(self) -> Path:
        """``release``, ``vmlinuz``, ``busybox`` and ``modules``."""
        return build_once(self.directory / "files", self._fetch)

    @property
    def busybox(self) -> Path:
        """The only program in a guest."""
        return self.files / "busybox"

    @property
    def vmlinux(self) -> Path:
        """The kernel with its debug information, fetched when first asked for."""
        return build_once(
            self.directory / f"vmlinux-{self.release}",
            lambda file: fetch_vmlinux(self._archive, self.release, file),
        )

    @property
    def has_vmlinux(self) -> bool:
        """Whether the debug information was fetched already."""
        return (self.directory / f"vmlinux-{self.release}").exists()

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
            f"CC={triplet}-{COMPILER}",
        )

    @property
    def _archive(self) -> Archive:
        return Archive(*self.suites, architecture=self.architecture.debian)

    def _fetch(self, directory: Path) -> None:
        """Fetch the newest release that the mirror has, and a shell."""
        directory.mkdir()
        archive = self._archive
        self._fetch_busybox(archive, directory / "busybox")
        failures = []
        for name in reversed(archive.names(f"linux-image-{self.releases}")):
            release = name[len("linux-image-") :]
            try:
                self._fetch_image(archive, release, directory)
            except PackageError as error:
                failures.append(str(error))
                continue
            (directory / "release").write_text(release)
            return
        reasons = "; ".join(failures) or "no such package"
        raise PackageError(f"no kernel {self.name} in {self.suites}: {reasons}")

    def _fetch_busybox(self, archive: Archive, busybox: Path) -> None:
        with TemporaryDirectory(dir=busybox.parent) as unpacked:
            with archive.downloaded(["busybox-static"]) as [deb]:
                unpack(deb, Path(unpacked), ["*/bin/busybox"])
            [found] = Path(unpacked).rglob("bin/busybox")
            found.rename(busybox)

    def _fetch_image(self, archive: Archive, release: str, directory: Path) -> None:
        """Fetch the image and the modules that a guest loads, of hundreds."""
        wanted = [f"*/{name}.ko*" for name in self.architecture.modules]
        image = self.architecture.image
        with TemporaryDirectory(dir=directory) as unpacked:
            with archive.downloaded([f"linux-image-{release}"]) as [deb]:
                unpack(deb, Path(unpacked), [f"./boot/{image}-*", *wanted])
            boot = Path(unpacked) / "boot"
            [vmlinuz] = boot.glob(f"{image}-{glob.escape(release)}")
            vmlinuz.rename(directory / "vmlinuz")
            modules = directory / "modules"
            modules.mkdir()
            for file in Path(unpacked).rglob("*.ko*"):
                file.rename(modules / file.name)

    def _tools(self, root: Path) -> None:
        host = Archive(*HOST_SUITES)
        release = self.release
        with self._archive.downloaded(self._header_packages(release)) as debs:
            kbuild = self._kbuild(release)
            cross = f"{COMPILER}-{self.architecture.triplet}"
            unpack_tools(host, [cross, kbuild], root)
            for deb in debs:
                unpack(deb, root)

    def _header_packages(self, release: str) -> list[str]:
        headers = f"linux-headers-{release}"
        common = [
            name
            for name in self._archive.direct_dependencies(headers)
            if name.endswith("-common")
        ]
        return [headers, *common]

    def _kbuild(self, release: str) -> str:
        [kbuild] = [
            name
            for name in self._archive.direct_dependencies(f"linux-headers-{release}")
            if name.startswith("linux-kbuild-")
        ]
        return kbuild
