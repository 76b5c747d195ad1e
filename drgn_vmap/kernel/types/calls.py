# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Calls
-----

Where the calls in a function's machine code lead: what debug info says of functions that
were inlined, code has to say where there is none.
"""

import re
import struct
from typing import Callable, Dict, Iterator, Optional, Set

from drgn import Architecture, Program

from ..doors import door

__all__ = ("called_by", "can_follow_calls")

_MAX_CODE = 1 << 16
"""More bytes than a function has that is looked into."""


def can_follow_calls(prog: Program) -> bool:
    """Return whether this architecture's code can be read here."""
    return _architecture(prog) in _CALLS


def called_by(prog: Program, function: str) -> Set[int]:
    """
    Return where the calls in a function's code may lead.

    :return: Addresses; none if there is no such function, or its code is not known here.
    :raises Fault: if its code cannot be read.
    """
    symbols = prog.symbols(function)
    calls = _CALLS.get(_architecture(prog))
    if calls is None or not symbols:
        return set()
    start, size = symbols[0].address, min(symbols[0].size, _MAX_CODE)
    with door():
        code = prog.read(start, size)
    return {(start + offset) % (1 << 64) for offset in calls(code)}


def _architecture(prog: Program) -> Optional[Architecture]:
    return prog.platform.arch if prog.platform else None


def _x86_64_calls(code: bytes) -> Iterator[int]:
    """Yield where calls lead, from the beginning of the code."""
    # Bytes that only look like a call lead anywhere, but hardly to a given function.
    for found in re.finditer(rb"\xe8(?=.{4})", code, re.S):
        yield found.end() + 4 + struct.unpack_from("<i", code, found.end())[0]


def _aarch64_calls(code: bytes) -> Iterator[int]:
    """Yield where BL instructions lead, from the beginning of the code."""
    for index, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) & ~3])):
        if word >> 26 == 0b100101:
            distance = (word & 0x3FFFFFF) - ((word & 0x2000000) << 1)
            yield 4 * (index + distance)


def _ppc64_calls(code: bytes) -> Iterator[int]:
    """Yield where relative BL instructions of little-endian code lead."""
    for index, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) & ~3])):
        if word >> 26 == 18 and word & 3 == 1:
            distance = (word & 0x3FFFFFC) - ((word & 0x2000000) << 1)
            yield 4 * index + distance
            # Calls skip what sets the callee's TOC pointer up, the two instructions that
            # its symbol is at (ELFv2 ABI, local entry points).
            yield 4 * index + distance - 8


def _s390x_calls(code: bytes) -> Iterator[int]:
    """Yield where BRASL instructions lead that return by register 14, as calls do."""
    # As on x86-64, what only looks like a call does no harm.
    for found in re.finditer(rb"\xc0\xe5(?=(.{4}))", code, re.S):
        yield found.start() + 2 * struct.unpack(">i", found[1])[0]


_CALLS: Dict[Optional[Architecture], Callable[[bytes], Iterator[int]]] = {
    Architecture.X86_64: _x86_64_calls,
    Architecture.AARCH64: _aarch64_calls,
    Architecture.PPC64: _ppc64_calls,
    Architecture.S390X: _s390x_calls,
}
