# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records of a struct: what its members can be, and what damaged types make of them."""

from __future__ import annotations

import struct
from contextlib import nullcontext
from typing import Callable

import numpy as np
import pytest
from drgn import Architecture, Platform, Program, Type, TypeMember

from drgn_vmap.errors import SymbolsError
from drgn_vmap.kernel.types.structs import record_dtype

Made = Callable[[Program], Type]
WANTED = {"size": "size", "map": "map[]"}


def unsigned_long(prog: Program) -> Type:
    return prog.int_type("unsigned long", 8, False)


def signed_long(prog: Program) -> Type:
    return prog.int_type("long", 8, True)


def wrapped(prog: Program) -> Type:
    """A struct of one number, as atomic_long_t is."""
    return prog.struct_type(None, 8, [TypeMember(signed_long(prog), "counter")])


def numbers(prog: Program) -> Type:
    return prog.array_type(unsigned_long(prog), 2)


def arrays(prog: Program) -> Type:
    return prog.array_type(numbers(prog), 2)


def nothing(prog: Program) -> Type:
    """A struct of no number."""
    return prog.struct_type(None, 8, [])


def program(size: Made, map_: Made, map_offset: int = 8, bytes_: int = 24) -> Program:
    """Return a program that knows a struct of these two members."""
    prog = Program(Platform(Architecture.X86_64))
    found = prog.struct_type(
        "vmap_fake",
        bytes_,
        [TypeMember(size(prog), "size"), TypeMember(map_(prog), "map", 8 * map_offset)],
    )
    prog.register_type_finder(
        "fake",
        lambda _, kinds, name, file: found if name == found.tag else None,
        enable_index=0,
    )
    return prog


@pytest.mark.parametrize("size", [unsigned_long, signed_long, wrapped])
def test_numbers_mix(size: Made) -> None:
    """A number and an array are read as they lie in memory, and go with addresses."""
    dtype = record_dtype(program(size, numbers), "struct vmap_fake", WANTED)
    (record,) = np.frombuffer(struct.pack("<QQQ", 5, 6, 7), dtype)
    assert (record["size"] | np.uint64(8)).tolist() == 13
    assert record["map"].tolist() == [6, 7]


@pytest.mark.parametrize(
    "damaged",
    [
        program(numbers, numbers),
        program(nothing, numbers),
        program(unsigned_long, unsigned_long),
        program(unsigned_long, arrays),
        program(unsigned_long, numbers, map_offset=16),
        program(unsigned_long, numbers, map_offset=1 << 19),
        program(unsigned_long, numbers, bytes_=1 << 30),
    ],
    ids=[
        "array for number",
        "nothing for number",
        "number for array",
        "array of arrays",
        "over the end",
        "behind the end",
        "absurd size",
    ],
)
def test_what_cannot_be_is_no_member(damaged: Program) -> None:
    """As where it is not known at all."""
    with pytest.raises(SymbolsError):
        record_dtype(damaged, "struct vmap_fake", WANTED)


def test_a_word_is_as_wide_as_one() -> None:
    """What each kernel has as a pointer or a long is nothing else, though a byte may be."""

    def char(prog: Program) -> Type:
        return prog.int_type("char", 1, True)

    assert record_dtype(program(char, numbers), "struct vmap_fake", WANTED)
    for size, is_fine in ((char, False), (signed_long, True)):
        prog = program(size, numbers)
        with nullcontext() if is_fine else pytest.raises(SymbolsError):
            record_dtype(prog, "struct vmap_fake", WANTED, words=("size",))
