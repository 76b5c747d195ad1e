# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
BTF of a compiler against the DWARF it made of the same source, BTF put together by
hand for what that compiler does not write, and BTF that is damaged.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from drgn import Architecture, Object, Platform, Program, Type, TypeKind, sizeof
from hypothesis import given, settings
from hypothesis import strategies as st

from drgn_vmap.errors import SymbolsError
from drgn_vmap.kernel.types.btf import BtfTypes
from drgn_vmap.kernel.types.btf_data import BtfData, BtfKind
from drgn_vmap.kernel.types.structs import has_member
from tests.fakes.btf import Maker
from tests.types import contents, outline

HERE = Path(__file__).parent / "btf"
SAMPLE = (HERE / "sample.btf").read_bytes()
EXAMPLES = int(os.environ.get("VMAP_BTF_EXAMPLES", "200"))
"""Damaged inputs to try; for long runs by hand."""


def program() -> Program:
    return Program(Platform(Architecture.X86_64))


def types_of(*data: bytes) -> tuple[Program, BtfTypes]:
    """Return a program that knows the types of BTF, of a kernel and of its module."""
    prog, found, base = program(), None, None
    for blob in data:
        base = BtfData(blob, base)
        found = BtfTypes(prog, base, found)
    assert found is not None
    prog.register_type_finder("kernel-btf", found.find, enable_index=0)
    return prog, found


# What a compiler writes


def sample_dwarf() -> Program:
    prog = program()
    prog.extra_module("sample", create=True).try_file(HERE / "sample.o")
    return prog


@pytest.mark.parametrize(
    "name",
    ["struct bits", "struct node", "struct packed", "struct empty", "union number"]
    + ["enum color", "enum temperature"],
)
def test_contents(name: str) -> None:
    """Sizes, members, offsets, bit sizes and values are those of DWARF."""
    prog, _ = types_of(SAMPLE)
    assert contents(prog.type(name)) == contents(sample_dwarf().type(name))


@pytest.mark.parametrize(
    "name", ["size_type", "truth", "int", "unsigned long", "_Bool", "float", "double"]
)
def test_names(name: str) -> None:
    """A name that stands for another type, or for a number."""
    found, expected = types_of(SAMPLE)[0].type(name), sample_dwarf().type(name)
    assert (found.kind, outline(found)) == (expected.kind, outline(expected))
    assert found.type_name() == expected.type_name()


def test_function() -> None:
    """A prototype; and what is declared but never defined has no size."""
    prog, types = types_of(SAMPLE)
    expected = sample_dwarf().function("add").type_
    function = types.function("add")
    assert function is not None
    assert outline(function) == outline(expected)
    assert [p.name for p in function.parameters] == ["node", "count"]
    opaque = prog.type("struct node").member("opaque").type.type
    assert opaque.tag == "only_declared" and not opaque.is_complete()
    assert types.function("node") is None


def test_values() -> None:
    """Objects of these types read what C would read."""
    prog, types = types_of(SAMPLE)
    node = prog.type("struct node")
    raw = bytearray(range(1, 1 + sizeof(node)))
    found = Object.from_bytes_(prog, node, bytes(raw))
    dwarf = sample_dwarf()
    expected = Object.from_bytes_(dwarf, dwarf.type("struct node"), bytes(raw))
    assert found.bits[1].c.value_() == expected.bits[1].c.value_()
    assert found.temperature.value_() == expected.temperature.value_()
    assert found.point.y.value_() == expected.point.y.value_()
    green = types.constant("GREEN")
    assert green is not None and green.value_() == 5
    assert green.type_.type_name() == "enum color"
    assert types.constant("PURPLE") is None


def test_filename() -> None:
    """BTF cannot tell files, so a type of a certain file is not found."""
    prog, _ = types_of(SAMPLE)
    with pytest.raises(LookupError):
        prog.type("struct node", "sample.c")


# What is put together by hand


def test_enum64() -> None:
    """Values of 64 bits, with and without a sign."""
    made = Maker()
    for name, flag in (("big", False), ("low", True)):
        words = [
            made.string(f"{name}_a"),
            1,
            0xFFFFFFFF,
            made.string(f"{name}_b"),
            7,
            0,
        ]
        made.add(BtfKind.ENUM64, name, 8, words, vlen=2, flag=flag)
    prog, _ = types_of(made.data())
    big, low = prog.type("enum big"), prog.type("enum low")
    assert [e.value for e in big.enumerators or ()] == [0xFFFFFFFF00000001, 7]
    assert [e.value for e in low.enumerators or ()] == [-0xFFFFFFFF, 7]
    assert (big.type.size, big.type.is_signed, low.type.is_signed) == (8, False, True)


def test_old_bit_fields() -> None:
    """Before kind_flag, a bit field was an integer of fewer bits."""
    made = Maker()
    odd = made.integer("int", 4, bits=5)
    words = [made.string("a"), odd, 0, made.string("b"), odd, 5]
    made.add(BtfKind.STRUCT, "s", 4, words, vlen=2)
    prog, _ = types_of(made.data())
    fields = [(m.bit_offset, m.bit_field_size) for m in prog.type("struct s").members]
    assert fields == [(0, 5), (5, 5)]


def test_tags() -> None:
    """Tags say nothing of a type itself."""
    made = Maker()
    number = made.integer()
    tag = made.add(BtfKind.TYPE_TAG, "user", number)
    pointer = made.add(BtfKind.PTR, "", tag)
    name = made.add(BtfKind.TYPEDEF, "p", pointer)
    made.add(BtfKind.DECL_TAG, "note", name, [0xFFFFFFFF])
    prog, _ = types_of(made.data())
    assert outline(prog.type("p").type.type) == ("int", 4, True)


def test_big_endian() -> None:
    """The magic number tells the order of bytes."""
    made = Maker(">")
    made.integer()
    prog = Program(Platform(Architecture.S390X))
    types = BtfTypes(prog, BtfData(made.data()))
    assert (types.type(1).size, types.type(1).byteorder) == (4, "big")


def test_module() -> None:
    """A module's BTF goes on where the kernel's ends, strings included."""
    kernel = Maker()
    number = kernel.integer()
    kernel.add(BtfKind.STRUCT, "core", 4, [kernel.string("a"), number, 0], vlen=1)
    kernel.add(BtfKind.FWD, "secret")
    module = Maker(base=kernel)
    member = [module.string("inner"), 2, 0, module.string("n"), 1, 32]
    module.add(BtfKind.STRUCT, "mine", 8, member, vlen=2)
    module.add(BtfKind.FWD, "core")
    module.add(BtfKind.TYPEDEF, "same", module.next - 1)
    prog, types = types_of(kernel.data(), module.data())
    mine = prog.type("struct mine")
    assert [m.name for m in mine.members or ()] == ["inner", "n"]
    assert mine.member("inner").type.member("a").type.name == "int"
    assert prog.type("same").type.size == 4


def test_kind_of_tomorrow() -> None:
    """A kind that is not known is passed over if the data tells its shape."""
    made = Maker()
    made.add(40, "news", 0, [1, 2, 3], vlen=1)
    made.integer()
    with pytest.raises(SymbolsError, match="offset 0x18 .kind 40 is unknown"):
        BtfData(made.data())
    shapes = b"\0\0\0\0" * 40 + bytes([4, 8, 0, 0])
    prog, types = types_of(made.data(shapes))
    assert prog.type("int").size == 4
    with pytest.raises(SymbolsError, match="no type"):
        types.type(1)


# What is damaged


def examine(data: bytes) -> None:
    """Look at all there is in BTF, as deep as drgn would go."""
    prog, types = types_of(data)
    blob = BtfData(data)
    for id in range(blob.end_id):
        try:
            look_at(types.type(id))
        except SymbolsError:
            pass
    for lookup in (types.constant, types.function, types.variable):
        lookup("GREEN")


def look_at(type_: Type) -> None:
    if type_.kind in (TypeKind.STRUCT, TypeKind.UNION):
        type_.has_member("no such member")
        for member in type_.members or ():
            try:
                outline(member.type)
            except SymbolsError:
                pass
    elif type_.kind == TypeKind.FUNCTION:
        outline(type_)


@pytest.mark.parametrize("offset", range(0, len(SAMPLE), 64))
def test_cut_short(offset: int) -> None:
    """The error names where it ends."""
    with pytest.raises(SymbolsError, match="damaged at offset 0x"):
        BtfData(SAMPLE[:offset])


@given(
    st.lists(
        st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_damage(changes: list[tuple[int, int]]) -> None:
    """Any bytes may be wrong: what cannot be is named, nothing else happens."""
    data = bytearray(SAMPLE)
    for at, value in changes:
        data[at] = value
    try:
        examine(bytes(data))
    except SymbolsError as e:
        assert "damaged at offset 0x" in str(e)


def circle(kind: int, **more: Any) -> bytes:
    made = Maker()
    made.add(kind, "t", 1, **more)
    return made.data()


@pytest.mark.parametrize(
    "data",
    [
        circle(BtfKind.PTR),
        circle(BtfKind.TYPEDEF),
        circle(BtfKind.CONST),
        circle(BtfKind.ARRAY, words=[1, 1, 4]),
        circle(BtfKind.FUNC_PROTO, words=[0, 1], vlen=1),
        circle(BtfKind.STRUCT, words=[0, 1, 0], vlen=1),
        circle(BtfKind.UNION, words=[0, 1, 0], vlen=1),
    ],
)
def test_made_of_itself(data: bytes) -> None:
    """A type that is made of itself is refused, not followed for ever."""
    _, types = types_of(data)
    with pytest.raises(SymbolsError, match="made of itself"):
        types.type(1)


def test_types_that_are_miscounted() -> None:
    """Each function has a prototype, unless all numbers behind some place are wrong."""
    made = Maker()
    prototype = made.add(BtfKind.FUNC_PROTO)
    made.add(BtfKind.FUNC, "right", prototype)
    BtfData(made.data())
    for wrong in (0, 2, 4, 1 << 31):
        made = Maker()
        made.add(BtfKind.FUNC_PROTO)
        made.integer()
        made.add(BtfKind.FUNC, "wrong", wrong)
        with pytest.raises(SymbolsError, match="a function has no prototype"):
            BtfData(made.data())


def test_function_with_no_string() -> None:
    """A function whose name is said to be behind all strings is damage, no traceback."""
    made = Maker()
    made.add(BtfKind.FUNC, "something", made.add(BtfKind.FUNC_PROTO))
    data = bytearray(made.data())
    data[24 + 12 : 24 + 16] = struct.pack("<I", 1 << 20)
    with pytest.raises(SymbolsError, match="there is no string"):
        BtfData(bytes(data)).heads_of_functions()


@pytest.mark.parametrize(
    "at, new, sound",
    [(1, b"t", True), (1, b"\x80", False), (2, b"\0", False), (4, b"x", False)],
)
def test_sound_strings(at: int, new: bytes, sound: bool) -> None:
    """Bytes that are no text, empty strings and names from amidst one tell of damage."""
    made = Maker()
    made.integer("int")
    made.add(BtfKind.STRUCT, "s")
    data = bytearray(made.data())
    start = data.index(b"int\0s\0") - 1
    data[start + at : start + at + 1] = new
    if new == b"\0":
        data[start + at + 1] = 0
    assert BtfData(bytes(data)).has_sound_strings() == sound


def test_number_without_a_name() -> None:
    """Only structs and unions are members without a name: of others it is damaged."""
    made = Maker()
    made.add(BtfKind.STRUCT, "s", 4, [0, made.integer(), 0], vlen=1)
    prog, _ = types_of(made.data())
    with pytest.raises(SymbolsError, match="has a member x is lost"):
        has_member(prog, "struct s", "x")


def test_unfolding_without_end() -> None:
    """Thirty structs, each of which holds the one before twice, are too many fields."""
    made = Maker()
    inner = made.integer()
    for _ in range(30):
        words = [0, inner, 0, 0, inner, 0]
        inner = made.add(BtfKind.STRUCT, "", 0, words, vlen=2)
    _, types = types_of(made.data())
    with pytest.raises(SymbolsError, match="made of itself"):
        types.type(inner)
