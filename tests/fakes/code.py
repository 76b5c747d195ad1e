# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program with functions of x86-64 that call one another, and their symbols."""

from __future__ import annotations

import struct

from drgn import FaultError, Program

from drgn_vmap._numpy import np
from drgn_vmap.kernel.types.carried import carried_by
from drgn_vmap.kernel.types.kallsyms import Kallsyms
from drgn_vmap.kernel.types.names import PlainNames

from .kernel import X86_64

__all__ = ("program_with",)

START = 0xFFFFFFFF81000000
SIZE = 0x100


def program_with(
    functions: dict[str, list[str]], into_padding: int = 0, readable: bool = True
) -> Program:
    """
    Return a program without debug info.

    :param functions: What each one calls, by name.
    :param into_padding: How many bytes before a function its calls lead to.
    """
    names = ["_text", *functions, "_end"]
    starts = {name: START + SIZE * index for index, name in enumerate(names)}
    memory = bytearray(SIZE * len(names))
    for name, callees in functions.items():
        at = starts[name]
        for callee in callees:
            distance = starts[callee] - into_padding - (at + 5)
            memory[at - START : at - START + 5] = struct.pack("<Bi", 0xE8, distance)
            at += 5

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        if not readable:
            raise FaultError("lost", address)
        return bytes(memory[offset : offset + count])

    prog = Program(X86_64)
    prog.add_memory_segment(START, len(memory), read)
    text = "".join(f"\nt{name}" for name in names).encode() + b"\n"
    table = Kallsyms(np.array(list(starts.values()), np.uint64), PlainNames(text))
    carried_by(prog).__dict__["kallsyms"] = table
    prog.register_symbol_finder("kallsyms", table.find, enable_index=0)
    return prog
