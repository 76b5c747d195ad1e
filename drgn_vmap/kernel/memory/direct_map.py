# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Direct map
----------

Where all of physical memory is mapped in one piece. Most of what is read lies there, and
in a vmcore its pages are found at once by physical address, where drgn would go through
the page table for each.
"""

from typing import NamedTuple, Optional

from drgn import Architecture, PlatformFlags, Program, ProgramFlags

from ..._drgn import follow_page_table, follow_phys
from ...errors import Fault
from ..doors import Values, architecture_of, door
from ..types.carried import carried_by
from .ppc64 import LINEAR_BYTES, LINEAR_START

__all__ = ("Mapped", "direct_map_start", "find_direct_map", "map_of_tables")

_ARM_IMAGE = 16 << 20
"""What is low memory of any machine, and the page table lies in, in front of the image."""


class Mapped(NamedTuple):
    """A part of the direct map."""

    start: int
    """Its virtual address."""
    size: int
    phys: int


def map_of_tables(prog: Program) -> Optional[Mapped]:
    """
    Return what part of it program headers have to describe, for drgn to find the topmost
    page table there by its address.

    :return: None if drgn finds that otherwise.
    :raises Fault: if where it lies cannot be read.
    """
    arch = architecture_of(prog)
    if arch == Architecture.PPC64:
        return Mapped(LINEAR_START, LINEAR_BYTES, 0)
    if arch != Architecture.ARM:
        return None
    table = carried_by(prog).vmcoreinfo.symbols.get("swapper_pg_dir")
    if table is None:
        return None
    with door():
        phys = follow_page_table(prog, table, table)
    inside = table % _ARM_IMAGE
    return Mapped(table - inside, _ARM_IMAGE, phys - inside)


def find_direct_map(values: Values) -> Optional[int]:
    """
    Return the virtual address of physical address 0, to read memory by.

    :return: None if it is not known, or if the kernel is running: its memory is read by
        virtual address, and each page is to be looked up anew.
    """
    if values.prog.flags & ProgramFlags.IS_LIVE:
        return None
    return direct_map_start(values)


def direct_map_start(values: Values) -> Optional[int]:
    """
    Return the virtual address of physical address 0.

    :return: None if it is not known.
    """
    platform = values.prog.platform
    if platform is None:
        return None
    # On 32 bits, memory that the direct map has no room for begins where it ends, and
    # so does vmalloc space: an address would tell nothing.
    if not platform.flags & PlatformFlags.IS_64_BIT:
        return None
    try:
        # vmalloc_init() makes it, in a slab, and slabs lie in the direct map.
        cache = values.number(lambda prog: prog["vmap_area_cachep"])
        if cache is None:
            return None
        phys = values.number(
            lambda prog: follow_phys(prog["init_mm"].address_of_(), cache)
        )
    except Fault:
        return None
    return None if phys is None or phys > cache else cache - phys
