# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Core files
----------

The parts of an ELF vmcore (elf(5), include/uapi/linux/elf.h) around its pages. The
program headers come last in the file, so pages can be written before all is known
about them. Every segment has as many bytes in the file as in memory: what is not in
a vmcore is not there, rather than zero.
"""

import struct
from typing import Iterator, Sequence, Tuple

from ..errors import TargetError
from ..model.core import CoreHead

__all__ = ("core_end", "core_start")

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
_PHDR = "IIQQQQQQ"
_SHDR = "IIQQQQIIQQ"
_NOTE = "III12s"
_ALIGN = 8
_NAME = b"VMCOREINFO\0"


def core_start(head: CoreHead) -> bytes:
    """
    Return what comes before the pages: room for the ELF header.

    :raises TargetError: if no such vmcore can be written.
    """
    if not head.is_64_bit or head.machine not in _MACHINES:
        raise TargetError(
            f"vmcores of {head.machine} cannot be written: use one of its own"
        )
    return bytes(head.page_size)


def core_end(head: CoreHead, frames: Sequence[int]) -> Tuple[bytes, bytes]:
    """
    Return what comes behind the pages, and the ELF header to begin the file with.

    :param frames: The frame of each page that was written, ascending.
    """
    order = "<" if head.is_little_endian else ">"
    note = struct.pack(order + _NOTE, len(_NAME), len(head.vmcoreinfo), 0, _NAME)
    note += head.vmcoreinfo
    note += bytes(-len(note) % _ALIGN)
    at = head.page_size * (1 + len(frames))
    segments = [(_PT_NOTE, 0, at, 0, 0, len(note), 0, 4), *_loads(head, frames)]
    table = b"".join(struct.pack(order + _PHDR, *segment) for segment in segments)
    at += len(note)
    # From PN_XNUM on, the first section header says how many segments there are.
    many = len(segments) >= _PN_XNUM
    section = (0, 0, 0, 0, 0, 0, 0, len(segments), 0, 0)
    sections = struct.pack(order + _SHDR, *section) if many else b""
    header = struct.pack(
        order + _EHDR,
        b"\x7fELF\x02" + (b"\x01" if head.is_little_endian else b"\x02") + b"\x01",
        _ET_CORE,
        _MACHINES[head.machine],
        1,
        0,
        at,
        at + len(table) if many else 0,
        0,
        struct.calcsize(order + _EHDR),
        struct.calcsize(order + _PHDR),
        _PN_XNUM if many else len(segments),
        struct.calcsize(order + _SHDR),
        int(many),
        0,
    )
    return note + table + sections, header


def _loads(
    head: CoreHead, frames: Sequence[int]
) -> Iterator[Tuple[int, int, int, int, int, int, int, int]]:
    """Yield a program header for each run of adjacent pages."""
    size = head.page_size
    begin = 0
    for end in range(1, len(frames) + 1):
        if end < len(frames) and frames[end] == frames[end - 1] + 1:
            continue
        phys = frames[begin] * size
        virtual = (head.direct_map + phys) % (1 << 64)
        bytes_ = (end - begin) * size
        offset = size * (1 + begin)
        yield _PT_LOAD, _PF_RWX, offset, virtual, phys, bytes_, bytes_, size
        begin = end
