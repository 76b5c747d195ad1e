# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernels of the lab, by name."""

from __future__ import annotations

from typing import Mapping

from .architecture import AMD64, ARM64, ARM64_16K, PPC64EL, S390X
from .built_kernel import BuiltKernel, KernelSource
from .debian_kernel import DebianKernel
from .foreign_kernel import HASH_MMU, ForeignKernel
from .kernel import Kernel

__all__ = (
    "ALL_KERNELS",
    "BUILT_KERNELS",
    "FOREIGN_KERNELS",
    "KERNELS",
    "LIVE_FOREIGN_KERNELS",
    "OFFERED_KERNELS",
    "VENDOR_KERNELS",
)

KERNELS = {
    kernel.name: kernel
    for kernel in (
        DebianKernel(
            "5.10",
            AMD64,
            ("bullseye", "bullseye-security"),
            (r"5\.10\.0-[0-9]+-cloud-amd64",),
        ),
        DebianKernel(
            "6.1",
            AMD64,
            ("bookworm", "bookworm-security"),
            (r"6\.1\.0-[0-9]+-cloud-amd64",),
        ),
        DebianKernel(
            "6.12",
            AMD64,
            ("bookworm", "bookworm-security"),
            (r"6\.12\.[0-9.]+\+deb12[0-9.]*-cloud-amd64",),
        ),
        DebianKernel(
            "7.3",
            AMD64,
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
    return {name: BuiltKernel(name, AMD64, source) for name in names}


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
            ARM64,
            _BOOKWORM,
            (f"{_DEB12}-cloud-arm64",),
            names_itself=True,
        ),
        ForeignKernel(
            "6.12-arm64-16k",
            ARM64_16K,
            _BOOKWORM,
            (f"{_DEB12}-arm64-16k",),
            names_itself=True,
        ),
        ForeignKernel("6.1-arm64", ARM64, _BOOKWORM, (r"6\.1\.0-[0-9]+-cloud-arm64",)),
        ForeignKernel(
            "6.1-ppc64el", PPC64EL, _BACKPORTS, (r"6\.1\.0-[0-9]+-powerpc64le",)
        ),
        ForeignKernel(
            "6.1-ppc64el-hash",
            PPC64EL,
            _BACKPORTS,
            (r"6\.1\.0-[0-9]+-powerpc64le",),
            arguments=HASH_MMU,
            cached_as="6.1-ppc64el",
        ),
        ForeignKernel(
            "6.12-ppc64el",
            PPC64EL,
            _BACKPORTS,
            (f"{_DEB12}-powerpc64le",),
            names_itself=True,
        ),
        ForeignKernel(
            "6.12-ppc64el-hash",
            PPC64EL,
            _BACKPORTS,
            (f"{_DEB12}-powerpc64le",),
            names_itself=True,
            arguments=HASH_MMU,
            cached_as="6.12-ppc64el",
        ),
        ForeignKernel(
            "6.12-ppc64el-64k",
            PPC64EL,
            _BACKPORTS,
            (f"{_DEB12}-powerpc64le-64k",),
            names_itself=True,
        ),
        ForeignKernel("6.1-s390x", S390X, _BACKPORTS, (r"6\.1\.0-[0-9]+-s390x",)),
        ForeignKernel(
            "6.12-s390x",
            S390X,
            _BACKPORTS,
            (f"{_DEB12}-s390x",),
            names_itself=True,
        ),
    )
}
"""Kernels of other architectures, whose vmcores are read on this one."""

LIVE_FOREIGN_KERNELS = ("6.1-arm64", "6.12-arm64")
"""Those of them that run our scripts as well."""

ALL_KERNELS: Mapping[str, Kernel] = {
    **KERNELS,
    **BUILT_KERNELS,
    **VENDOR_KERNELS,
    **OFFERED_KERNELS,
    **{name: FOREIGN_KERNELS[name] for name in LIVE_FOREIGN_KERNELS},
}
"""Those with everything in their guests."""
