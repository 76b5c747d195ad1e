# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernels of the lab, by name."""

from __future__ import annotations

from typing import Mapping

from .architecture import (
    AMD64,
    ARM64,
    ARM64_16K,
    ARM64_MTE,
    ARMHF,
    PPC64EL,
    RISCV64,
    S390X,
)
from .built_kernel import BuiltKernel, KernelSource
from .debian_kernel import DebianKernel
from .foreign_kernel import HASH_MMU, ForeignKernel
from .kernel import Kernel
from .tagged_kernel import TaggedKernel

__all__ = (
    "ALL_KERNELS",
    "BUILT_KERNELS",
    "CONFIGURED_KERNELS",
    "FEW_NAMES_KERNELS",
    "FOREIGN_KERNELS",
    "KERNELS",
    "LIVE_FOREIGN_KERNELS",
    "OFFERED_KERNELS",
    "UNUSUAL_KERNELS",
    "VENDOR_KERNELS",
    "WITH_TAGS",
    "WITHOUT_KCORE",
)

_BOOKWORM = ("bookworm", "bookworm-security")
_DEB12 = r"6\.12\.[0-9.]+\+deb12[0-9.]*"

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
            _BOOKWORM,
            (r"6\.1\.0-[0-9]+-cloud-amd64",),
        ),
        DebianKernel(
            "6.12",
            AMD64,
            _BOOKWORM,
            (f"{_DEB12}-cloud-amd64",),
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


_OF_6_1 = ("CONFIG_PROC_SYSCTL=y", "CONFIG_DEBUG_INFO_DWARF5=y")
# Of the patches to test with: with kunit.enable=1 they run while it boots.
_KUNIT = ("CONFIG_KUNIT=y", "CONFIG_VREAD_KUNIT_TEST=y")

BUILT_KERNELS = _built(
    KernelSource(
        "6.1",
        _BOOKWORM,
        ("plain", "series", "fixed"),
        options=(*_OF_6_1, *_KUNIT),
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
            _BOOKWORM,
            ("v6.5", "gki66", "rhel9"),
            options=_OF_6_1,
            after=("series",),
        )
    ),
}
"""Kernels that keep areas as vendors' mixtures of old and new do."""


def _configured(
    variant: str, *options: str, **how: tuple[str, ...]
) -> dict[str, BuiltKernel]:
    """Return 6.1 without NUMA, and with other options than those that are usual here."""
    return _built(
        KernelSource(
            "6.1",
            _BOOKWORM,
            (variant,),
            options=(
                *_OF_6_1,
                "# CONFIG_NUMA is not set",
                "# CONFIG_X86_64_ACPI_NUMA is not set",
                *options,
            ),
            **how,
        )
    )


CONFIGURED_KERNELS: Mapping[str, Kernel] = {
    **_configured("up", "# CONFIG_SMP is not set", "CONFIG_NR_CPUS=1"),
    # KASAN follows stacks, for which it does not guess.
    **_configured(
        "kasan",
        *("CONFIG_KASAN=y", "CONFIG_KASAN_VMALLOC=y"),
        *("# CONFIG_UNWINDER_GUESS is not set", "CONFIG_UNWINDER_FRAME_POINTER=y"),
    ),
    # Names of functions that are shared between files end in a hash.
    **_configured(
        "lto",
        "CONFIG_LTO_CLANG_THIN=y",
        make_options=("LLVM=1",),
        packages=("clang", "lld", "llvm", "perl"),
    ),
    "6.12-rt": DebianKernel("6.12-rt", AMD64, _BOOKWORM, (f"{_DEB12}-rt-amd64",)),
}
"""Kernels with options that decide what areas there are and where they are kept."""

_NO_VARIABLES = "# CONFIG_KALLSYMS_ALL is not set"

FEW_NAMES_KERNELS = {
    **_configured("names", _NO_VARIABLES),
    **_configured("nameless", _NO_VARIABLES, "# CONFIG_KALLSYMS is not set"),
}
"""Kernels that have no names of variables, or none at all."""

UNUSUAL_KERNELS: Mapping[str, Kernel] = {**VENDOR_KERNELS, **CONFIGURED_KERNELS}
"""Those that are built, or fetched, and tried only if VMAP_KERNELS names them."""

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

_BACKPORTS = ("bookworm-backports", "bookworm")

WITH_TAGS = "6.12-arm64-swtags"
"""One whose pointers have tags, here of software."""

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
        TaggedKernel(
            WITH_TAGS,
            ARM64,
            _BOOKWORM,
            (),
            names_itself=True,
            options=("CONFIG_KASAN_SW_TAGS=y", "CONFIG_KASAN_OUTLINE=y"),
        ),
        TaggedKernel(
            "6.12-arm64-hwtags",
            ARM64_MTE,
            _BOOKWORM,
            (),
            names_itself=True,
            options=(
                "CONFIG_KASAN_HW_TAGS=y",
                *("CONFIG_ARM64_MTE=y", "CONFIG_ARM64_TAGGED_ADDR_ABI=y"),
                *("CONFIG_ARM64_PAN=y", "CONFIG_ARM64_USE_LSE_ATOMICS=y"),
            ),
        ),
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
        ForeignKernel("6.12-armhf", ARMHF, _BACKPORTS, (f"{_DEB12}-armmp",)),
        ForeignKernel("6.12-armhf-lpae", ARMHF, _BACKPORTS, (f"{_DEB12}-armmp-lpae",)),
        ForeignKernel(
            "6.12-riscv64",
            RISCV64,
            ("trixie",),
            (r"6\.12\.[0-9.]+\+deb13[0-9.]*-riscv64",),
            names_itself=True,
            compiler="gcc-14",
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

LIVE_FOREIGN_KERNELS = (
    "6.1-arm64",
    "6.12-arm64",
    WITH_TAGS,
    "6.12-ppc64el",
    "6.12-riscv64",
    "6.12-s390x",
)
"""Those of them that run our scripts as well."""

WITHOUT_KCORE = "6.12-armhf"
"""One that does, but has no /proc/kcore."""

ALL_KERNELS: Mapping[str, Kernel] = {
    **KERNELS,
    **BUILT_KERNELS,
    **UNUSUAL_KERNELS,
    **FEW_NAMES_KERNELS,
    **OFFERED_KERNELS,
    **{name: FOREIGN_KERNELS[name] for name in (*LIVE_FOREIGN_KERNELS, WITHOUT_KCORE)},
}
"""Those with everything in their guests."""
