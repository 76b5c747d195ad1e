# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Program headers of ELF cores
----------------------------

/proc/kcore is an ELF core, and so are many vmcores. Their program headers say which
addresses are where in the file. Slices have many thousands of them, which are read in one
go.
"""

import os
import struct

from ..._numpy import Array, Record, np
from ...model.file_starts import ELF

__all__ = ("CutShortError", "read_elf_loads")

_ET_CORE = 4
_PT_LOAD = 1
_IDENT_BYTES = 16
_CLASS, _DATA = 4, 5
_ORDERS = {1: "<", 2: ">"}
# The ELF header behind e_ident, and a program header, by EI_CLASS.
_HEADERS = {1: "HHIIIIIHHHHHH", 2: "HHIQQQIHHHHHH"}
_PROGRAM_HEADERS = {
    1: (("type", "offset", "vaddr", "paddr", "filesz", "memsz", "flags", "align"), 4),
    2: (("type", "flags", "offset", "vaddr", "paddr", "filesz", "memsz", "align"), 8),
}
_PN_XNUM = 0xFFFF
_MAX_BYTES = 256 << 20
_SH_INFO = {1: 28, 2: 44}
"""Where in a section header sh_info is."""


class CutShortError(ValueError):
    """A file ends before its program headers do."""


def read_elf_loads(fd: int) -> Array:
    """
    Return the PT_LOAD headers of an ELF core, by the names of ``Elf64_Phdr`` less "p_".

    :raises OSError: if it cannot be read.
    :raises CutShortError: if it has not all of them.
    :raises ValueError: if it is no ELF core, or makes no sense.
    """
    try:
        return _read(fd)
    except (struct.error, IndexError) as e:
        raise CutShortError(str(e)) from e
    except KeyError as e:
        raise ValueError(str(e)) from e


def _read(fd: int) -> Array:
    ident = os.pread(fd, _IDENT_BYTES, 0)
    if ident[:4] != ELF:
        raise ValueError("it does not begin as ELF does")
    order, elf_class = _ORDERS[ident[_DATA]], ident[_CLASS]
    header = order + _HEADERS[elf_class]
    fields = struct.unpack(header, os.pread(fd, struct.calcsize(header), _IDENT_BYTES))
    if fields[0] != _ET_CORE:
        raise ValueError("it is no core")
    offset, sections, count = fields[4], fields[5], fields[9]
    if count == _PN_XNUM:
        # So many do not fit; the first section header says how many (elf(5)).
        (count,) = struct.unpack(
            f"{order}I", os.pread(fd, 4, sections + _SH_INFO[elf_class])
        )
    dtype = _program_header_dtype(elf_class, order)
    if count * dtype.itemsize > _MAX_BYTES:
        raise ValueError(f"{count} program headers cannot be")
    raw = os.pread(fd, count * dtype.itemsize, offset)
    if len(raw) < count * dtype.itemsize:
        raise CutShortError(f"it has not all of {count} program headers")
    headers = np.frombuffer(raw, dtype, count)
    return headers[headers["type"] == _PT_LOAD]


def _program_header_dtype(elf_class: int, order: str) -> Record:
    names, word = _PROGRAM_HEADERS[elf_class]
    sizes = [4 if name in ("type", "flags") else word for name in names]
    return np.dtype([(name, f"{order}u{size}") for name, size in zip(names, sizes)])
