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
from typing import NamedTuple, Tuple

from .._numpy import Array, Record, U64Array, np
from ..errors import TargetError
from ..model.core import CoreHead
from ..model.file_starts import ELF

__all__ = ("core_headers",)

_MACHINES = {
    "ARM": 40,
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
_NOWHERE = 0xFFFFFFFF
"""The last address of 32 bits, which nothing is mapped at."""


class _Class(NamedTuple):
    """What headers look like; elf(5) has it."""

    number: int
    header: str
    word: str
    program_header: Tuple[str, ...]
    section_header: str


_PLACE = ("offset", "vaddr", "paddr", "filesz", "memsz")
_CLASSES = {
    False: _Class(
        1, "16sHHIIIIIHHHHHH", "u4", ("type", *_PLACE, "flags", "align"), "IIIIIIIIII"
    ),
    True: _Class(
        2, "16sHHIQQQIHHHHHH", "u8", ("type", "flags", *_PLACE, "align"), "IIQQQQIIQQ"
    ),
}
"""By whether addresses have 64 bits."""
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
    if head.machine not in _MACHINES:
        raise TargetError(
            f"vmcores of {head.machine} cannot be written: use one of its own"
        )
    if not head.is_64_bit and (begins + sizes > np.uint64(_NOWHERE)).any():
        raise TargetError(
            "it has memory above 4 GiB, which no vmcore of 32 bits holds: use one of its own"
        )
    kind, order = _CLASSES[head.is_64_bit], "<" if head.is_little_endian else ">"
    note = _note(head, order)
    count = 1 + len(begins)
    # From PN_XNUM on, the first section header says how many segments there are.
    section = (0, 0, 0, 0, 0, 0, 0, count, 0, 0)
    sections = struct.pack(order + kind.section_header, *section)
    sections = sections if count >= _PN_XNUM else b""
    table = np.zeros(count, _program_header(kind, order))
    header = _elf_header(head, kind, order, table)
    at_note = len(header) + table.nbytes + len(sections)
    note_header, loads = table[:1], table[1:]
    note_header["type"], note_header["align"] = _PT_NOTE, 4
    note_header["offset"], note_header["filesz"] = at_note, len(note)
    loads["type"], loads["flags"] = _PT_LOAD, _PF_RWX
    loads["offset"] = at_note + len(note)
    loads["offset"][1:] += np.cumsum(sizes[:-1]).astype(kind.word)
    loads["vaddr"] = _addresses(head, begins, sizes)
    loads["paddr"] = begins
    loads["filesz"] = loads["memsz"] = sizes
    loads["align"] = 1
    # elf(5) wants these by address.
    loads[:] = loads[np.argsort(begins)]
    return header + table.tobytes() + sections + note


def _note(head: CoreHead, order: str) -> bytes:
    note = struct.pack(order + _NOTE, len(_NAME), len(head.vmcoreinfo), 0, _NAME)
    note += head.vmcoreinfo
    return note + bytes(-len(note) % _ALIGN)


def _elf_header(head: CoreHead, kind: _Class, order: str, table: Array) -> bytes:
    """Return the header of a file in which program headers follow, and then sections."""
    many = len(table) >= _PN_XNUM
    at_table = struct.calcsize(order + kind.header)
    return struct.pack(
        order + kind.header,
        bytes((*ELF, kind.number, 1 if head.is_little_endian else 2, 1)),
        _ET_CORE,
        _MACHINES[head.machine],
        1,
        0,
        at_table,
        at_table + table.nbytes if many else 0,
        0,
        at_table,
        table.itemsize,
        _PN_XNUM if many else len(table),
        struct.calcsize(order + kind.section_header),
        int(many),
        0,
    )


def _program_header(kind: _Class, order: str) -> Record:
    wide = (*_PLACE, "align")
    names = kind.program_header
    return np.dtype(
        [(name, order + (kind.word if name in wide else "u4")) for name in names]
    )


def _addresses(head: CoreHead, begins: U64Array, sizes: U64Array) -> U64Array:
    """Return where spans of memory are mapped, as far as that is to be told."""
    mapped = begins + np.uint64(head.direct_map)
    if head.direct_end is None:
        return mapped
    behind = begins + sizes > np.uint64(head.direct_end)
    return np.where(behind, np.uint64(_NOWHERE), mapped)
