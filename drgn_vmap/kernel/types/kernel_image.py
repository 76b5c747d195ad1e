# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernel image
------------

The kernel's names, types and variables lie in its image, and drgn finds that by the page
table. A single page of that may be lost, and then all of the image would be; but where it
lies in physical memory, VMCOREINFO tells as well.
"""

from typing import Optional

from drgn import Architecture, FaultError, Program, ProgramFlags

from ..._drgn import follow_page_table
from ..doors import UNREADABLE, architecture_of
from .vmcoreinfo import Vmcoreinfo

__all__ = ("image_phys", "mend_image")

_START = 0xFFFFFFFF80000000
"""__START_KERNEL_map of x86-64 (arch/x86/include/asm/page_64_types.h)."""
_LARGEST = 1 << 30
"""KERNEL_IMAGE_SIZE, at most."""
_TABLE_BYTES = 1 << 21
"""What a table of single pages maps."""


def mend_image(prog: Program, vmcoreinfo: Vmcoreinfo) -> None:
    """Have the kernel image read without the page table, if parts of that are lost."""
    shift, top = _shift(prog, vmcoreinfo), vmcoreinfo.symbols.get("swapper_pg_dir")
    if shift is None or top is None:
        return
    size = vmcoreinfo.numbers.get("KERNEL_IMAGE_SIZE", _LARGEST)
    if not 0 < size <= _LARGEST:
        size = _LARGEST

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        return prog.read((address + shift) % (1 << 64), count, physical=True)

    if any(
        _is_table_lost(prog, top, address)
        for address in range(_START, _START + size, _TABLE_BYTES)
    ):
        prog.add_memory_segment(_START, size, read)


def image_phys(prog: Program, vmcoreinfo: Vmcoreinfo, address: int) -> Optional[int]:
    """Return the physical address of one in the kernel image, if VMCOREINFO tells."""
    shift = _shift(prog, vmcoreinfo)
    if shift is None or not _START <= address < _START + _LARGEST:
        return None
    return (address + shift) % (1 << 64)


def _shift(prog: Program, vmcoreinfo: Vmcoreinfo) -> Optional[int]:
    """Return what is to be added to an address in the image of a vmcore."""
    numbers, arch = vmcoreinfo.numbers, architecture_of(prog)
    if arch == Architecture.RISCV64:
        offset = numbers.get("va_kernel_pa_offset")
        return None if offset is None else -offset
    base = numbers.get("phys_base")
    is_live = prog.flags & ProgramFlags.IS_LIVE
    if base is None or is_live or arch != Architecture.X86_64:
        return None
    return base - _START


def _is_table_lost(prog: Program, top: int, address: int) -> bool:
    """Whether it cannot be told where an address is mapped, since a table is lost."""
    # Nothing is read but tables: what is mapped there is no business of a slice.
    try:
        follow_page_table(prog, top, address)
    except FaultError as e:
        # Of a table that is lost it names the physical address; of an address that is
        # not mapped, the address itself.
        return e.address != address
    except UNREADABLE:
        pass
    return False
