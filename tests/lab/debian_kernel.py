# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel that Debian ships."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator

from .cache import build_once, cache_dir
from .chroot import unpack_tools
from .kernel import Kernel
from .packages import Archive, PackageError, unpack

__all__ = ("DebianKernel", "fetch_vmlinux")


@dataclass(frozen=True)
class DebianKernel(Kernel):
    """A kernel that Debian ships, and what the lab has fetched of it."""

    suites: tuple[str, ...]
    """The suites that hold its packages and a compiler for them."""

    releases: tuple[str, ...]
    """POSIX patterns of ``uname -r``; a later one serves if no earlier one does."""

    @property
    def archive(self) -> Archive:
        """The packages this kernel belongs to."""
        return Archive(*self.suites)

    @property
    def directory(self) -> Path:
        """Where everything made of this kernel is cached."""
        return cache_dir() / "kernels" / self.name

    @property
    def files(self) -> Path:
        """What the packages hold, fetched when first asked for."""
        return build_once(self.directory / "files", self._fetch)

    @property
    def module_tree(self) -> Path:
        """Headers, the tools they bring and the compiler the kernel was built with."""
        release = self.release
        return build_once(
            self.directory / f"headers-{release}",
            lambda root: unpack_tools(self.archive, [f"linux-headers-{release}"], root),
        )

    def _fetch(self, directory: Path) -> None:
        """
        Fetch the newest release that the mirror has in full.

        Indexes list packages that mirrors no longer hold, above all the large
        ones with debug information: those come first, then an older release.
        """
        directory.mkdir()
        archive = self.archive
        failures = []
        for release in self._releases(archive):
            try:
                fetch_vmlinux(archive, release, directory / "vmlinux")
                _fetch_image(archive, release, directory)
            except PackageError as error:
                failures.append(str(error))
                continue
            (directory / "release").write_text(release)
            return
        reasons = "; ".join(failures) or "no such package"
        raise PackageError(f"no kernel {self.name} in {self.suites}: {reasons}")

    def _releases(self, archive: Archive) -> Iterator[str]:
        """Return what packages with debug information there are, newest first."""
        for pattern in self.releases:
            for name in reversed(archive.names(f"linux-image-{pattern}-dbg")):
                yield name[len("linux-image-") : -len("-dbg")]


def fetch_vmlinux(archive: Archive, release: str, vmlinux: Path) -> None:
    """
    Fetch the kernel with its debug information.

    :raises PackageError: if the mirror does not have it.
    """
    package = f"linux-image-{release}-dbg"
    with TemporaryDirectory(dir=vmlinux.parent) as unpacked:
        with archive.downloaded([package]) as [deb]:
            unpack(deb, Path(unpacked), ["*/vmlinux*"])
        # The package also has symbolic links of that name.
        [found] = (
            path
            for path in Path(unpacked).rglob("vmlinux*")
            if path.is_file() and not path.is_symlink()
        )
        found.rename(vmlinux)


def _fetch_image(archive: Archive, release: str, directory: Path) -> None:
    image = f"linux-image-{release}"
    # Debian's 7.x splits it into linux-binary (vmlinuz), linux-modules and
    # linux-base, which the then empty linux-image depends on.
    parts = [
        name
        for name in archive.direct_dependencies(image)
        if name.endswith(f"-{release}")
    ]
    with TemporaryDirectory(dir=directory) as unpacked:
        with archive.downloaded([image, *parts]) as debs:
            for deb in debs:
                unpack(deb, Path(unpacked))
        [vmlinuz] = Path(unpacked).rglob("vmlinuz*")
        vmlinuz.rename(directory / "vmlinuz")
        [modules] = Path(unpacked).rglob(f"modules/{glob.escape(release)}")
        modules.rename(directory / "modules")
