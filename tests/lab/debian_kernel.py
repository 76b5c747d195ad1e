# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel that Debian ships for this architecture."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .cache import build_once
from .chroot import unpack_tools
from .packaged_kernel import PackagedKernel, fetch_vmlinux
from .packages import unpack

__all__ = ("DebianKernel",)


@dataclass(frozen=True)
class DebianKernel(PackagedKernel):
    """A kernel whose suites hold a compiler for it as well."""

    @property
    def module_tree(self) -> Path:
        """Headers, the tools they bring and the compiler the kernel was built with."""
        release = self.release
        return build_once(
            self.directory / f"headers-{release}",
            lambda root: unpack_tools(self.archive, [f"linux-headers-{release}"], root),
        )

    def _fetch_release(self, release: str, directory: Path) -> None:
        fetch_vmlinux(self.archive, release, directory / "vmlinux")
        image = f"linux-image-{release}"
        # Debian's 7.x splits it into linux-binary (vmlinuz), linux-modules and
        # linux-base, which the then empty linux-image depends on.
        parts = [
            name
            for name in self.archive.direct_dependencies(image)
            if name.endswith(f"-{release}")
        ]
        with TemporaryDirectory(dir=directory) as unpacked:
            with self.archive.downloaded([image, *parts]) as debs:
                for deb in debs:
                    unpack(deb, Path(unpacked))
            [vmlinuz] = Path(unpacked).rglob("vmlinuz*")
            vmlinuz.rename(directory / "vmlinuz")
            [modules] = Path(unpacked).rglob(f"modules/{glob.escape(release)}")
            modules.rename(directory / "modules")
