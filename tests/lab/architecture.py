# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machines that QEMU runs: one record each."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = (
    "AMD64",
    "ARM64",
    "ARM64_16K",
    "ARM64_MTE",
    "ARMHF",
    "PPC64EL",
    "RISCV64",
    "S390X",
    "Architecture",
)


@dataclass(frozen=True)
class Architecture:
    """What has to be known of an architecture to build for it and to boot it."""

    debian: str
    """Debian's name of it."""

    linux: str
    """Its directory below arch/ of the kernel."""

    triplet: str
    """What its cross compiler's name begins with."""

    image: str
    """The file below /boot that QEMU boots, less the release."""

    qemu: str
    """QEMU's program."""

    package: str
    """The Debian package that QEMU's program is in."""

    machine: tuple[str, ...]
    """Arguments that choose machine, processor and devices."""

    console: str
    """The terminal at QEMU's first serial port."""

    byteorder: str
    """``little`` or ``big``."""

    oldest_qemu: int = 0
    """The first of QEMU's versions that it is known to work with."""

    memory_mib: int = 512
    """Enough for the fixture module, whose mappings are counted in pages."""

    arguments: str = ""
    """Of the command line of each of its kernels."""

    nodes: int = 2
    """NUMA nodes that QEMU's machine may have, or two."""

    modules: tuple[str, ...] = ()
    """Modules that guests without our scripts load at boot."""

    direct_map: int | None = None
    """
    Where a dump has to say that physical memory begins, if QEMU's dump is to be mended
    before drgn can open it.
    """

    @property
    def is_dump_whole(self) -> bool:
        """Whether drgn opens what QEMU writes."""
        return self.direct_map is None


AMD64 = Architecture(
    debian="amd64",
    linux="x86",
    triplet="x86_64-linux-gnu",
    image="vmlinuz",
    qemu="qemu-system-x86_64",
    package="qemu-system-x86",
    # Without la57: the vmalloc range of a machine that people have.
    machine=("-cpu", "max,la57=off", "-device", "vmcoreinfo"),
    console="ttyS0",
    byteorder="little",
    # On a busy machine an emulated timer ticks too late for the kernel's test of it, which
    # panics.
    arguments="no_timer_check",
)
"""This machine's."""

ARM64 = Architecture(
    debian="arm64",
    linux="arm64",
    triplet="aarch64-linux-gnu",
    image="vmlinuz",
    qemu="qemu-system-aarch64",
    package="qemu-system-arm",
    # Otherwise 256 MiB are mapped for PCI, page after page to look at.
    machine=(
        *("-M", "virt,highmem=off", "-cpu", "cortex-a72"),
        *("-device", "vmcoreinfo"),
    ),
    console="ttyAMA0",
    byteorder="little",
    # It gives QEMU the VMCOREINFO for its dump.
    modules=("qemu_fw_cfg",),
)

ARM64_16K = replace(
    ARM64,
    # Not every processor has pages of 16 KiB. Its pointers are signed in a way of QEMU's
    # own, which is quick.
    machine=("-M", "virt", "-cpu", "max,pauth-impdef=on", "-device", "vmcoreinfo"),
    memory_mib=1024,
)

ARM64_MTE = replace(
    ARM64_16K,
    machine=("-M", "virt,mte=on", *ARM64_16K.machine[2:]),
    # Some tags that 7.2 keeps are wrong: KASAN finds the kernel at fault, which panics.
    oldest_qemu=10,
)
"""Has memory tags, as processors of phones do."""

ARMHF = Architecture(
    debian="armhf",
    linux="arm",
    triplet="arm-linux-gnueabihf",
    image="vmlinuz",
    qemu="qemu-system-arm",
    package="qemu-system-arm",
    machine=("-M", "virt,highmem=off", "-cpu", "cortex-a15"),
    console="ttyAMA0",
    byteorder="little",
    # More than the kernel has addresses for: some of it is high memory.
    memory_mib=1024,
    # To PAGE_OFFSET, from where the machine has its memory.
    direct_map=0xC0000000 - 0x40000000,
)

PPC64EL = Architecture(
    debian="ppc64el",
    linux="powerpc",
    triplet="powerpc64le-linux-gnu",
    image="vmlinux",
    qemu="qemu-system-ppc64",
    package="qemu-system-ppc",
    # What QEMU can't emulate of the processor's defences, and a device whose registers
    # are mapped in the kernel's range for I/O.
    machine=(
        "-M",
        "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
        "-cpu",
        "power9",
        "-device",
        "e1000",
    ),
    console="hvc0",
    byteorder="little",
    memory_mib=1024,
    direct_map=0xC000000000000000,
)

RISCV64 = Architecture(
    debian="riscv64",
    linux="riscv",
    triplet="riscv64-linux-gnu",
    image="vmlinux",
    qemu="qemu-system-riscv64",
    package="qemu-system-misc",
    # With entries of page tables that stand for 16 pages each.
    machine=("-M", "virt", "-cpu", "rv64,svnapot=true"),
    console="ttyS0",
    byteorder="little",
    # With two, disks wait for interrupts that never come.
    nodes=1,
    direct_map=0,
)

S390X = Architecture(
    debian="s390x",
    linux="s390",
    triplet="s390x-linux-gnu",
    image="vmlinuz",
    qemu="qemu-system-s390x",
    package="qemu-system-misc",
    machine=("-M", "s390-ccw-virtio", "-cpu", "max"),
    console="ttysclp0",
    byteorder="big",
    nodes=1,
    direct_map=0,
)
