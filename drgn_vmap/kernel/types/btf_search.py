# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
BTF search
----------

Finds the BTF of a kernel by what it begins with, where the names are lost that tell its
address; and its sections by what is in them, where that beginning is lost. The BTF of
modules lies elsewhere.
"""

import struct
from typing import List, Optional, Tuple

from drgn import Program

from ..._numpy import np
from ...errors import SymbolsError
from .btf_data import BtfData
from .btf_kind import BtfKind
from .torn import Torn
from .torn_btf import find_types
from .torn_reads import read_torn

__all__ = ("find_btf", "read_btf")

_REACH = 64 << 20
"""More bytes than what is only read has behind the symbol table."""
_MAGICS = {"<": b"\x9f\xeb\x01\x00", ">": b"\xeb\x9f\x01\x00"}
_HEADER_BYTES = 24
_LOOK_BEHIND = 256
"""Bytes in which the strings begin behind the last that is in no text."""
_TAGS = ("task_struct", "mm_struct", "page", "file", "inode", "dentry", "device")
_MAX_BYTES = 256 << 20


def find_btf(prog: Program, begin: int) -> Optional[Tuple[int, int]]:
    """
    Find the only BTF at or behind an address.

    :return: Where it begins and ends; None if there is none, or several.
    :raises Fault: if nothing there can be read.
    """
    data = read_torn(prog, begin, _REACH).data
    order = "<" if prog.type("unsigned int").byteorder == "little" else ">"
    found = []
    at = data.find(_MAGICS[order])
    while 0 <= at <= len(data) - _HEADER_BYTES:
        header, *sections = struct.unpack_from(f"{order}IIIII", data, at + 4)
        types_at, types, strings_at, strings = sections
        # Its strings lie just behind its types, and begin with an empty one.
        fits = header in (_HEADER_BYTES, _HEADER_BYTES + 8) and types_at == 0
        if fits and strings_at == types and 0 < types + strings < _MAX_BYTES:
            found.append((begin + at, begin + at + header + types + strings))
        at = data.find(_MAGICS[order], at + 1)
    return found[0] if len(found) == 1 else None


def read_btf(torn: Torn, byteorder: str) -> BtfData:
    """
    Read a kernel's BTF, what there is of it.

    :param byteorder: Of the kernel, as drgn writes it.
    :raises SymbolsError: if it is damaged, or too little is left.
    """
    if not torn.has(0, _HEADER_BYTES):
        torn = _with_header(torn, byteorder)
    return BtfData(torn.data, lost=torn.lost, find_types=find_types)


def _with_header(torn: Torn, byteorder: str) -> Torn:
    """Return BTF whose header is lost with one, if where its sections are can be told."""
    order = "<" if byteorder == "little" else ">"
    best, most = torn, len(_TAGS) // 2
    for begin in _string_sections(torn):
        types, strings = begin - _HEADER_BYTES, len(torn.data) - begin
        header = struct.pack(
            f"{order}HBBIIIII", 0xEB9F, 1, 0, _HEADER_BYTES, 0, types, types, strings
        )
        lost = ((max(start, _HEADER_BYTES), end) for start, end in torn.lost)
        mended = Torn(header + torn.data[_HEADER_BYTES:], tuple(lost))
        found = _count_tags(mended)
        if found > most:
            best, most = mended, found
    return best


def _string_sections(torn: Torn) -> List[int]:
    """Return where the strings may begin: behind the last byte that is in no text."""
    codes = np.frombuffer(torn.data, np.uint8)
    other = np.flatnonzero((codes > 0x7E) | (codes < 0x20) & (codes != 0))
    last = int(other[-1]) if len(other) else 0
    return [
        at
        for at in range(last + 1, min(last + _LOOK_BEHIND, len(codes) - 1))
        if at % 4 == 0 and codes[at] == 0 and codes[at + 1] and torn.has(at, at + 2)
    ]


def _count_tags(torn: Torn) -> int:
    """Return of how many of the structs that each kernel has BTF tells."""
    try:
        data = BtfData(torn.data, lost=torn.lost, find_types=find_types)
    except SymbolsError:
        return 0
    return sum(bool(data.find(BtfKind.STRUCT, tag)) for tag in _TAGS)
