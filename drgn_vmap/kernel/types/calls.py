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
from typing import Callable, Dict, Iterator, Optional, Sequence

from drgn import Architecture, Program, Symbol

from ..doors import architecture_of, door

__all__ = ("calls",)

_MAX_CODE = 1 << 16
"""More bytes than a function has that is looked into."""
_PADDING = 16
"""CONFIG_FUNCTION_PADDING_BYTES of x86-64."""


def calls(
    prog: Program, callers: Sequence[Symbol], callees: Sequence[Symbol]
) -> Optional[bool]:
    """
    Return whether there is a call of a function in another one's code.

    :param callers: Symbols of what the compiler made of the one.
    :param callees: And of the other.
    :return: None if that is not known: without symbols, on an architecture whose code is
        not known here, or if no call in it leads to any function.
    :raises Fault: if the code cannot be read.
    """
    offsets = _CALLS.get(architecture_of(prog))
    if offsets is None or not callees:
        return None
    wanted = {symbol.address for symbol in callees}
    known = None
    for symbol in callers:
        start, size = symbol.address, min(symbol.size, _MAX_CODE)
        with door():
            code = prog.read(start, size)
        for offset in offsets(code):
            led = set(_led_to(prog, (start + offset) % (1 << 64)))
            if led & wanted:
                return True
            if led:
                known = False
    return known


def _led_to(prog: Program, target: int) -> Iterator[int]:
    """Yield the functions that a call of an address gets to."""
    # Since Linux kernel commit e81dc127ef69 ("x86/callthunks: Add call patching for call
    # depth tracking") (in v6.2), calls may lead into the padding before a function, which
    # runs on into it. Symbols reach to the next one.
    padded = architecture_of(prog) == Architecture.X86_64
    for symbol in prog.symbols(target):
        if symbol.address == target:
            yield target
        behind = symbol.address + symbol.size
        if padded and target < behind <= target + _PADDING:
            yield behind


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


def _riscv64_calls(code: bytes) -> Iterator[int]:
    """Yield where JAL, and AUIPC with JALR, lead that return by register 1, as calls do."""
    # Instructions begin at every other byte. As on x86-64, what only looks like a call does
    # no harm.
    for found in re.finditer(rb"(?=([\xef\x97].{7}))", code + bytes(4), re.S):
        first, second = struct.unpack("<II", found[1])
        if first & 0xFFF == 0x0EF:
            low = first >> 20 & 0x7FE | first >> 9 & 0x800 | first & 0xFF000
            yield found.start() + low - (first >> 31 << 20)
        elif first & 0xFFF == 0x097 and second & 0xFFFFF == 0x080E7:
            high = (first & 0xFFFFF000) - (first >> 31 << 32)
            yield found.start() + high + (second >> 20) - (second >> 31 << 12)


def _s390x_calls(code: bytes) -> Iterator[int]:
    """Yield where BRASL instructions lead that return by register 14, as calls do."""
    # As on x86-64, what only looks like a call does no harm.
    for found in re.finditer(rb"\xc0\xe5(?=(.{4}))", code, re.S):
        yield found.start() + 2 * struct.unpack(">i", found[1])[0]


_CALLS: Dict[Optional[Architecture], Callable[[bytes], Iterator[int]]] = {
    Architecture.X86_64: _x86_64_calls,
    Architecture.AARCH64: _aarch64_calls,
    Architecture.PPC64: _ppc64_calls,
    Architecture.RISCV64: _riscv64_calls,
    Architecture.S390X: _s390x_calls,
}
