# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Core files
----------

The headers of an ELF vmcore (elf(5), include/uapi/linux/elf.h), which come before all
that it holds of memory, so that a file that is cut short opens. Every segment has as
many bytes in the file as in memory, and segments begin and end at any byte: what is
not in a vmcore is not there, rather than zero.
"""

import struct

from .._numpy import U64Array, np
from ..errors import TargetError
from ..model.core import CoreHead

__all__ = ("core_headers",)

_MACHINES = {
    "X86_64": 62,
    "AARCH64": 183,
    "PPC64": 21,
    "S390X": 22,
    "RISCV64": 243,
    "LOONGARCH64": 258,
}
"""EM_* by drgn's name."""
_ET_CORE = 4
_PT_LOAD, _PT_NOTE = 1, 4
_PF_RWX = 7
_PN_XNUM = 0xFFFF
_EHDR = "16sHHIQQQIHHHHHH"
_PHDR = (
    ("type", "u4"),
    ("flags", "u4"),
    ("offset", "u8"),
    ("vaddr", "u8"),
    ("paddr", "u8"),
    ("filesz", "u8"),
    ("memsz", "u8"),
    ("align", "u8"),
)
_SHDR = "IIQQQQIIQQ"
_NOTE = "III12s"
_ALIGN = 8
_NAME = b"VMCOREINFO\0"


def core_headers(head: CoreHead, begins: U64Array, sizes: U64Array) -> bytes:
    """
    Return what comes before the contents of physical memory.

    :param begins: Physical address where each span of it begins, in the order in which
        their contents follow.
    :param sizes: Bytes of each span.
    :raises TargetError: if no such vmcore can be written.
    """
    if not head.is_64_bit or head.machine not in _MACHINES:
        raise TargetError(
            f"vmcores of {head.machine} cannot be written: use one of its own"
        )
    order = "<" if head.is_little_endian else ">"
    note = struct.pack(order + _NOTE, len(_NAME), len(head.vmcoreinfo), 0, _NAME)
    note += head.vmcoreinfo
    note += bytes(-len(note) % _ALIGN)
    table = np.zeros(1 + len(begins), [(name, order + of) for name, of in _PHDR])
    # From PN_XNUM on, the first section header says how many segments there are.
    many = len(table) >= _PN_XNUM
    section = (0, 0, 0, 0, 0, 0, 0, len(table), 0, 0)
    sections = struct.pack(order + _SHDR, *section) if many else b""
    at_table = struct.calcsize(order + _EHDR)
    at_sections = at_table + table.nbytes
    at_note = at_sections + len(sections)
    table[0] = _PT_NOTE, 0, at_note, 0, 0, len(note), 0, 4
    loads = table[1:]
    loads["type"], loads["flags"] = _PT_LOAD, _PF_RWX
    loads["offset"] = at_note + len(note)
    loads["offset"][1:] += np.cumsum(sizes[:-1])
    loads["vaddr"] = begins + np.uint64(head.direct_map)
    loads["paddr"] = begins
    loads["filesz"] = loads["memsz"] = sizes
    loads["align"] = 1
    # elf(5) wants these by address.
    loads[:] = loads[np.argsort(begins)]
    header = struct.pack(
        order + _EHDR,
        b"\x7fELF\x02" + (b"\x01" if head.is_little_endian else b"\x02") + b"\x01",
        _ET_CORE,
        _MACHINES[head.machine],
        1,
        0,
        at_table,
        at_sections if many else 0,
        0,
        at_table,
        table.itemsize,
        _PN_XNUM if many else len(table),
        struct.calcsize(order + _SHDR),
        int(many),
        0,
    )
    return header + table.tobytes() + sections + note
