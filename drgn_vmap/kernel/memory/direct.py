# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Direct reads
------------

How drgn itself reads vmalloc space of a running kernel right: a memory segment laid over
it looks each address up in the kernel's page table and reads RAM, where drgn would read
/proc/kcore. RAM is what /proc/kcore gives a physical address, so no device is ever read.

It needs no types, as a program may get them later. drgn cannot take a segment away: to
switch off, one is laid over it that reads the file as drgn did.
"""

import struct
from typing import Optional

from drgn import FaultError, Program, ProgramFlags

from ..._drgn import follow_page_table
from ...errors import TargetError
from ..doors import UNREADABLE
from ..types.carried import carried_by, is_here
from ..types.kernel_image import image_phys
from ..types.vmcoreinfo import Vmcoreinfo
from .address_space import AddressSpace, Reader
from .kcore import Kcore, Space
from .table_formats import ENTRY_BYTES, table_format

__all__ = ("DirectReads", "direct_reads", "page_table_reader", "reads_kcore")

_KEY = "drgn_vmap direct"
_ROOT = "swapper_pg_dir"


class DirectReads:
    """
    How one program reads vmalloc space; use :func:`direct_reads`.

    :raises TargetError: if it cannot be read otherwise than now.
    """

    def __init__(self, prog: Program) -> None:
        self._prog = prog
        self._memory = _address_space(prog)
        self._kcore = Kcore(carried_by(prog).vmcoreinfo.page_size or 0)
        self._is_on = False

    def switch(self, on: bool) -> None:
        """Read page table and RAM, or /proc/kcore."""
        if on == self._is_on:
            return
        for space in self._kcore.mapped_spaces():
            through = (
                self._memory.reader(space.start) if on else self._file_reader(space)
            )
            self._prog.add_memory_segment(space.start, space.size, through)
        self._is_on = on

    def _file_reader(self, space: Space) -> Reader:
        def read(address: int, count: int, _: int, __: bool) -> bytes:
            at = space.offset + address - space.start
            data = self._kcore.read_bytes(at, count)
            if len(data) < count:
                raise FaultError("short read from memory file", address + len(data))
            return data

        return read


def reads_kcore(prog: Program) -> bool:
    """Return whether drgn reads a program's vmalloc space through /proc/kcore."""
    return bool(prog.flags & ProgramFlags.IS_LINUX_KERNEL) and is_here(prog)


def direct_reads(prog: Program, on: bool = True) -> bool:
    """
    Have a program read vmalloc space by page table and RAM, or, as drgn does by itself,
    through /proc/kcore.

    :return: Whether that is for us to say: of all but the kernel of this very machine,
        drgn reads page tables by itself.
    :raises TargetError: if its page tables cannot be read here.
    """
    if not reads_kcore(prog):
        return False
    reads: Optional[DirectReads] = prog.cache.get(_KEY)
    if reads is None and on:
        reads = prog.cache[_KEY] = DirectReads(prog)
    if reads is not None:
        reads.switch(on)
    return True


def page_table_reader(prog: Program) -> Reader:
    """
    Return what reads virtual memory by the kernel's page table.

    :raises TargetError: if that cannot be read here.
    """
    return _address_space(prog).reader(0)


def _address_space(prog: Program) -> AddressSpace:
    """Return the kernel's, without any of its types."""
    vmcoreinfo = carried_by(prog).vmcoreinfo
    root_address = vmcoreinfo.symbols.get(_ROOT)
    try:
        if root_address is None:
            raise ValueError(f"VMCOREINFO does not name {_ROOT}")
        root = _follow(prog, vmcoreinfo, root_address)
    except UNREADABLE as e:
        raise _unknown(str(e)) from e
    format_ = table_format(
        prog.platform,
        vmcoreinfo.numbers,
        vmcoreinfo.page_size or 0,
        lambda order: struct.unpack(f"{order}Q", prog.read(root, ENTRY_BYTES, True))[0],
    )
    if format_ is None:
        raise _unknown("their format on this architecture is not known here")
    return AddressSpace(prog, format_, root)


def _follow(prog: Program, vmcoreinfo: Vmcoreinfo, root: int) -> int:
    """Return the physical address of the uppermost table."""
    try:
        return follow_page_table(prog, root, root)
    except NotImplementedError:
        phys = image_phys(prog, vmcoreinfo, root)
        if phys is None:
            raise
        return phys


def _unknown(why: str) -> TargetError:
    return TargetError(
        f"this kernel's page tables cannot be read ({why}): "
        "take a vmcore, or drgn with the newest release"
    )
