# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernel image
------------

The kernel's names, types and variables lie in its image, and drgn finds that by the page
table. A single page of that may be lost, and then all of the image would be; but where it
lies in physical memory, VMCOREINFO tells as well.
"""

from typing import Iterable

from drgn import Architecture, FaultError, Program, ProgramFlags

from ..doors import UNREADABLE
from .vmcoreinfo import Vmcoreinfo

__all__ = ("mend_image",)

_START = 0xFFFFFFFF80000000
"""__START_KERNEL_map of x86-64 (arch/x86/include/asm/page_64_types.h)."""
_LARGEST = 1 << 30
"""KERNEL_IMAGE_SIZE, at most."""
_PAGE = 1 << 12


def mend_image(prog: Program, vmcoreinfo: Vmcoreinfo, places: Iterable[int]) -> None:
    """
    Have the kernel image read without the page table, if that is lost.

    :param places: Addresses in the image, at which this is tried out.
    """
    base = vmcoreinfo.numbers.get("phys_base")
    if base is None or prog.flags & ProgramFlags.IS_LIVE or not _is_x86_64(prog):
        return
    size = vmcoreinfo.numbers.get("KERNEL_IMAGE_SIZE", _LARGEST)
    if not 0 < size <= _LARGEST:
        size = _LARGEST
    shift = base - _START

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        return prog.read((address + shift) % (1 << 64), count, physical=True)

    if any(
        _START <= place < _START + size and _is_table_lost(prog, place, shift)
        for place in places
    ):
        prog.add_memory_segment(_START, size, read)


def _is_x86_64(prog: Program) -> bool:
    return bool(prog.platform and prog.platform.arch == Architecture.X86_64)


def _is_table_lost(prog: Program, address: int, shift: int) -> bool:
    """Whether an address cannot be read, but not because its own page is lost."""
    try:
        prog.read(address, 1)
    except FaultError as e:
        # Of a page that is lost it names the physical address; of an address that is
        # not mapped, the address itself.
        own = (address, (address + shift) % (1 << 64))
        return e.address // _PAGE not in [place // _PAGE for place in own]
    except UNREADABLE:
        pass
    return False
