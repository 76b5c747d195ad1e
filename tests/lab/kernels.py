# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernels of the lab, by name."""

from __future__ import annotations

from typing import Mapping

from .architecture import ARM64, ARM64_16K, PPC64EL, S390X
from .built_kernel import BuiltKernel, KernelSource
from .debian_kernel import DebianKernel
from .foreign_kernel import HASH_MMU, ForeignKernel
from .kernel import Kernel

__all__ = (
    "ALL_KERNELS",
    "BUILT_KERNELS",
    "FOREIGN_KERNELS",
    "KERNELS",
    "OFFERED_KERNELS",
    "VENDOR_KERNELS",
)

KERNELS = {
    kernel.name: kernel
    for kernel in (
        DebianKernel(
            "5.10",
            ("bullseye", "bullseye-security"),
            (r"5\.10\.0-[0-9]+-cloud-amd64",),
        ),
        DebianKernel(
            "6.1",
            ("bookworm", "bookworm-security"),
            (r"6\.1\.0-[0-9]+-cloud-amd64",),
        ),
        DebianKernel(
            "6.12",
            ("bookworm", "bookworm-security"),
            (r"6\.12\.[0-9.]+\+deb12[0-9.]*-cloud-amd64",),
        ),
        DebianKernel(
            "7.3",
            ("trixie", "trixie-security", "trixie-backports"),
            (
                r"7\.3\.[0-9.]+\+deb13[0-9.]*-cloud-amd64",
                r"[0-9.]+\+deb13[0-9.]*-cloud-amd64",
            ),
        ),
    )
}
"""Debian's kernels, one for each generation of vmalloc state, oldest first."""


def _built(source: KernelSource) -> dict[str, BuiltKernel]:
    names = (f"{source.version}-{variant}" for variant in source.variants)
    return {name: BuiltKernel(name, source) for name in names}


# Of the patches to test with: with kunit.enable=1 they run while it boots.
_KUNIT = ("CONFIG_KUNIT=y", "CONFIG_VREAD_KUNIT_TEST=y")

BUILT_KERNELS = _built(
    KernelSource(
        "6.1",
        ("bookworm", "bookworm-security"),
        ("plain", "series", "fixed"),
        options=("CONFIG_PROC_SYSCTL=y", "CONFIG_DEBUG_INFO_DWARF5=y", *_KUNIT),
        after=("test",),
    )
)
"""Kernels that no distribution here has: with the vm_map_ram series, and before."""

VENDOR_KERNELS = {
    **_built(
        KernelSource(
            "5.10",
            ("bullseye", "bullseye-security"),
            ("rhel8",),
            options=("CONFIG_PROC_SYSCTL=y", "CONFIG_DEBUG_INFO=y"),
        )
    ),
    **_built(
        KernelSource(
            "6.1",
            ("bookworm", "bookworm-security"),
            ("rhel9",),
            options=("CONFIG_PROC_SYSCTL=y", "CONFIG_DEBUG_INFO_DWARF5=y"),
            after=("series",),
        )
    ),
}
"""Kernels that keep areas as vendors' mixtures of old and new do."""

OFFERED_KERNELS = _built(
    KernelSource(
        "7.3",
        ("trixie", "trixie-security", "trixie-backports"),
        ("plain", "fixed"),
        options=(
            "CONFIG_SYSCTL=y",
            "CONFIG_DEBUG_INFO_DWARF5=y",
            *_KUNIT,
            "CONFIG_KUNIT_AUTORUN_ENABLED=y",
        ),
        after=("test",),
    )
)
"""A current kernel before and with the fix to offer to it."""

_BOOKWORM = ("bookworm", "bookworm-security")
_BACKPORTS = ("bookworm-backports", "bookworm")
_DEB12 = r"6\.12\.[0-9.]+\+deb12[0-9.]*"

FOREIGN_KERNELS = {
    kernel.name: kernel
    for kernel in (
        ForeignKernel(
            "6.12-arm64",
            _BOOKWORM,
            (f"{_DEB12}-cloud-arm64",),
            ARM64,
            names_itself=True,
        ),
        ForeignKernel(
            "6.12-arm64-16k",
            _BOOKWORM,
            (f"{_DEB12}-arm64-16k",),
            ARM64_16K,
            names_itself=True,
        ),
        ForeignKernel("6.1-arm64", _BOOKWORM, (r"6\.1\.0-[0-9]+-cloud-arm64",), ARM64),
        ForeignKernel(
            "6.1-ppc64el", _BACKPORTS, (r"6\.1\.0-[0-9]+-powerpc64le",), PPC64EL
        ),
        ForeignKernel(
            "6.1-ppc64el-hash",
            _BACKPORTS,
            (r"6\.1\.0-[0-9]+-powerpc64le",),
            PPC64EL,
            arguments=HASH_MMU,
            cached_as="6.1-ppc64el",
        ),
        ForeignKernel(
            "6.12-ppc64el",
            _BACKPORTS,
            (f"{_DEB12}-powerpc64le",),
            PPC64EL,
            names_itself=True,
        ),
        ForeignKernel(
            "6.12-ppc64el-hash",
            _BACKPORTS,
            (f"{_DEB12}-powerpc64le",),
            PPC64EL,
            names_itself=True,
            arguments=HASH_MMU,
            cached_as="6.12-ppc64el",
        ),
        ForeignKernel(
            "6.12-ppc64el-64k",
            _BACKPORTS,
            (f"{_DEB12}-powerpc64le-64k",),
            PPC64EL,
            names_itself=True,
        ),
        ForeignKernel("6.1-s390x", _BACKPORTS, (r"6\.1\.0-[0-9]+-s390x",), S390X),
        ForeignKernel(
            "6.12-s390x",
            _BACKPORTS,
            (f"{_DEB12}-s390x",),
            S390X,
            names_itself=True,
        ),
    )
}
"""Kernels of other architectures, whose vmcores are read on this one."""

ALL_KERNELS: Mapping[str, Kernel] = {
    **KERNELS,
    **BUILT_KERNELS,
    **VENDOR_KERNELS,
    **OFFERED_KERNELS,
}
"""Those of this architecture, with everything in their guests."""
