# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What kernels that Debian ships have in common, for whatever architecture."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator

from .cache import build_once, cache_dir
from .kernel import Kernel
from .packages import Archive, PackageError, unpack

__all__ = ("PackagedKernel", "fetch_vmlinux")


@dataclass(frozen=True)
class PackagedKernel(Kernel):
    """A kernel that Debian ships, and what the lab has fetched of it."""

    suites: tuple[str, ...]
    """The suites that hold its packages."""

    releases: tuple[str, ...]
    """POSIX patterns of ``uname -r``; a later one serves if no earlier one does."""

    @property
    def archive(self) -> Archive:
        """The packages this kernel belongs to."""
        return Archive(*self.suites, architecture=self.debian_architecture)

    @property
    def directory(self) -> Path:
        """Where everything made of this kernel is cached."""
        return cache_dir() / "kernels" / self.name

    @property
    def files(self) -> Path:
        """What the packages hold, fetched when first asked for."""
        return build_once(self.directory / "files", self._fetch)

    @abstractmethod
    def _fetch_release(self, release: str, directory: Path) -> None:
        """
        Fetch what ``files`` is to have of a release.

        :raises PackageError: if the mirror does not have it in full.
        """

    def _fetch(self, directory: Path) -> None:
        """
        Fetch the newest release that the mirror has in full.

        Indexes list packages that mirrors no longer hold, above all the large
        ones with debug information: then an older release serves.
        """
        directory.mkdir()
        failures = []
        for release in self._listed():
            try:
                self._fetch_release(release, directory)
            except PackageError as error:
                failures.append(str(error))
                continue
            (directory / "release").write_text(release)
            return
        reasons = "; ".join(failures) or "no such package"
        raise PackageError(f"no kernel {self.name} in {self.suites}: {reasons}")

    def _listed(self) -> Iterator[str]:
        """Return what packages with debug information there are, newest first."""
        for pattern in self.releases:
            for name in reversed(self.archive.names(f"linux-image-{pattern}-dbg")):
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
