# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Headers of ELF cores, of x86-64: what they say and what the file has may differ."""

import struct
from typing import NamedTuple, Sequence

__all__ = ("PT_LOAD", "PT_NOTE", "Segment", "elf_headers")

PT_LOAD, PT_NOTE = 1, 4
_ET_CORE, _EM_X86_64 = 4, 62
_HEADER = struct.Struct("<HHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_READABLE = 4


class Segment(NamedTuple):
    """What a program header says of one."""

    offset: int
    """Where in the file it is."""
    virtual: int
    physical: int
    there: int
    """Bytes that the file has of it."""
    size: int
    """Bytes that it is said to have."""
    type: int = PT_LOAD


def elf_headers(segments: Sequence[Segment]) -> bytes:
    """Return what a core file begins with."""
    begin = len(_IDENT) + _HEADER.size
    sizes = (begin, _SEGMENT.size, len(segments), 0, 0, 0)
    header = _HEADER.pack(_ET_CORE, _EM_X86_64, 1, 0, begin, 0, 0, *sizes)
    table = b"".join(
        _SEGMENT.pack(one.type, _READABLE, *one[:-1], 4) for one in segments
    )
    return _IDENT + header + table
