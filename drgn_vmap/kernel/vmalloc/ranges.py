# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Ranges
------

Where vmalloc space begins and ends. VMALLOC_START and VMALLOC_END are macros, so
they are taken from where the kernel noted them down.
"""

from typing import Optional, Tuple

from drgn import Architecture

from ...errors import Fault, SymbolsError
from ...model.space import VmallocRange
from ..target import Target

__all__ = ("vmalloc_range",)

# VMALLOC_SIZE_TB of arch/x86/include/asm/pgtable_64_types.h, with 4 and 5 levels
# of page tables.
_X86_64_SIZE = {False: 32 << 40, True: 12800 << 40}


def vmalloc_range(target: Target) -> VmallocRange:
    """
    Find vmalloc space.

    :raises SymbolsError: if nothing in the target tells.
    """
    for source in (_from_kcore, _from_vmcoreinfo, _from_variables):
        try:
            found = source(target)
        except Fault:
            continue  # Another may be left.
        if found is not None and found[0] < found[1] < 1 << 64:
            start, limit = found
            end = -(-limit // target.page_size) * target.page_size
            return VmallocRange(start, end, limit)
    raise SymbolsError(
        "where vmalloc space begins and ends is not known: install the kernel's "
        "debug info, or name its vmlinux with drgn -s"
    )


def _from_kcore(target: Target) -> Optional[Tuple[int, int]]:
    """Take the part of /proc/kcore that proc_kcore_init() makes for vmalloc."""
    start, size = (
        target.values.number(
            lambda prog: prog.variable("kcore_vmalloc", "fs/proc/kcore.c").member_(name)
        )
        for name in ("addr", "size")
    )
    return (start, start + size) if start is not None and size else None


def _from_vmcoreinfo(target: Target) -> Optional[Tuple[int, int]]:
    """Take what some architectures write into VMCOREINFO."""
    numbers = target.vmcoreinfo.numbers
    start, end = numbers.get("VMALLOC_START"), numbers.get("VMALLOC_END")
    return None if start is None or end is None else (start, end)


def _from_variables(target: Target) -> Optional[Tuple[int, int]]:
    """Take variables of x86-64 (vmalloc_base), or ppc64 and s390x."""
    values, platform = target.values, target.prog.platform
    if platform is not None and platform.arch == Architecture.X86_64:
        start = values.number(lambda prog: prog["vmalloc_base"])
        five_levels = target.vmcoreinfo.numbers.get("pgtable_l5_enabled") == 1
        return None if start is None else (start, start + _X86_64_SIZE[five_levels] - 1)
    start = values.number(lambda prog: prog["__vmalloc_start"])
    end = values.number(lambda prog: prog["__vmalloc_end"])
    return None if start is None or end is None else (start, end)
