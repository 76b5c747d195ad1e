# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machines that people have and the other guests are not."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("MACHINES", "Machine")


@dataclass(frozen=True)
class Machine:
    """What is different, and how the kernel itself says that it is so."""

    shown_by: str
    """A command that succeeds there, and on no other guest."""

    append: str = ""
    qemu: tuple[str, ...] = ()


MACHINES = {
    "5-level page tables": Machine(
        shown_by="grep -q la57 /proc/cpuinfo",
        qemu=("-cpu", "max,la57=on"),
    ),
    "300 possible CPUs": Machine(
        shown_by="grep -qx 0-299 /sys/devices/system/cpu/possible",
        append="possible_cpus=300",
    ),
    "2 of 4 CPUs": Machine(
        shown_by="cd /sys/devices/system/cpu && grep -qx 0-3 possible && "
        "grep -qx 0-1 online",
        append="possible_cpus=4",
    ),
    "hotplugged memory": Machine(
        shown_by="dmesg | grep -q 'SRAT.* hotplug' && "
        "test $(sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) -gt 1200000",
        append="memhp_default_state=online",
        qemu=(
            *("-m", "slots=1,maxmem=4G", "-device", "pc-dimm,memdev=more"),
            *("-object", "memory-backend-ram,id=more,size=512M"),
        ),
    ),
    "call thunks": Machine(
        shown_by="grep -qx 'Mitigation: Stuffing' "
        "/sys/devices/system/cpu/vulnerabilities/retbleed",
        append="retbleed=stuff spectre_v2=retpoline",
        # Stuffing is for some of Intel's processors.
        qemu=("-cpu", "Skylake-Client"),
    ),
    "debugged slab caches": Machine(
        shown_by="cd /sys/kernel/slab/vmap_area && test "
        "$(sort -u red_zone poison sanity_checks store_user) = 1",
        append="slub_debug=FZPU",
    ),
}
