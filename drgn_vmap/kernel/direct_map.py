# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Direct map
----------

Where all of physical memory is mapped in one piece. Most of what is read lies there, and
in a vmcore its pages are found at once by physical address, where drgn would go through
the page table for each.
"""

from typing import Optional

from drgn import FaultError, PlatformFlags, Program, ProgramFlags
from drgn.helpers.linux.mm import follow_phys

from .ppc64 import LINEAR_START, has_hash_table

__all__ = ("direct_map",)

_CACHE_KEY = "drgn_vmap.direct_map"


def direct_map(prog: Program) -> Optional[int]:
    """
    Return the virtual address of physical address 0.

    :return: None if it is not known, or if the kernel is running: its memory is read by
        virtual address, and each page is to be looked up anew.
    """
    if _CACHE_KEY not in prog.cache:
        prog.cache[_CACHE_KEY] = _find(prog)
    found: Optional[int] = prog.cache[_CACHE_KEY]
    return found


def _find(prog: Program) -> Optional[int]:
    platform = prog.platform
    if platform is None or prog.flags & ProgramFlags.IS_LIVE:
        return None
    # On 32 bits, memory that the direct map has no room for begins where it ends, and
    # so does vmalloc space: an address would tell nothing.
    if not platform.flags & PlatformFlags.IS_64_BIT:
        return None
    if has_hash_table(prog):
        return LINEAR_START
    try:
        # vmalloc_init() makes it, in a slab, and slabs lie in the direct map.
        cache = prog["vmap_area_cachep"].value_()
        phys = follow_phys(prog["init_mm"].address_of_(), cache).value_()
    except (LookupError, FaultError, NotImplementedError, ValueError):
        return None
    return int(cache - phys)
