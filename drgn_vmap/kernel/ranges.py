# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Ranges
------

Where vmalloc space begins and ends. VMALLOC_START and VMALLOC_END are macros, so
they are taken from where the kernel noted them down.
"""

import re
from typing import Optional, Tuple

from drgn import Architecture, Program

from ..errors import SymbolsError
from ..model.space import VmallocRange

__all__ = ("vmalloc_range",)

# VMALLOC_SIZE_TB of arch/x86/include/asm/pgtable_64_types.h, with 4 and 5 levels
# of page tables.
_X86_64_SIZE = {0: 32 << 40, 1: 12800 << 40}


def vmalloc_range(prog: Program) -> VmallocRange:
    """
    Find vmalloc space.

    :raises SymbolsError: if nothing in the target tells.
    """
    for source in (_from_kcore, _from_vmcoreinfo, _from_variables):
        found = source(prog)
        if found is not None:
            page_size = prog["PAGE_SIZE"].value_()
            start, limit = found
            return VmallocRange(start, -(-limit // page_size) * page_size, limit)
    raise SymbolsError(
        "where vmalloc space begins and ends is not known: install the kernel's "
        "debug info, or name its vmlinux with drgn -s"
    )


def _from_kcore(prog: Program) -> Optional[Tuple[int, int]]:
    """Take the part of /proc/kcore that proc_kcore_init() makes for vmalloc."""
    try:
        part = prog.variable("kcore_vmalloc", "fs/proc/kcore.c")
    except LookupError:
        return None
    start, size = part.addr.value_(), part.size.value_()
    return (start, start + size) if size else None


def _from_vmcoreinfo(prog: Program) -> Optional[Tuple[int, int]]:
    """Take what some architectures write into VMCOREINFO."""
    text = prog["VMCOREINFO"].string_().decode("ascii", "replace")
    pairs = re.findall(r"^NUMBER\(VMALLOC_(START|END)\)=(\w+)$", text, re.M)
    found = {name: int(value, 0) for name, value in pairs}
    return (found["START"], found["END"]) if len(found) == 2 else None


def _from_variables(prog: Program) -> Optional[Tuple[int, int]]:
    """Take variables of x86-64 (vmalloc_base), or ppc64 and s390x."""
    platform = prog.platform
    try:
        if platform is not None and platform.arch == Architecture.X86_64:
            start = prog["vmalloc_base"].value_()
            return start, start + _X86_64_SIZE[_five_levels(prog)] - 1
        return prog["__vmalloc_start"].value_(), prog["__vmalloc_end"].value_()
    except KeyError:
        return None


def _five_levels(prog: Program) -> int:
    text = prog["VMCOREINFO"].string_().decode("ascii", "replace")
    found = re.search(r"^NUMBER\(pgtable_l5_enabled\)=(\d)$", text, re.M)
    return int(found[1]) if found else 0
