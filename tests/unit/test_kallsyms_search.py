# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A symbol table of which nobody says where it is: it is found as each kernel since 4.18
keeps it, and what is damaged is not taken for one.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Optional

import pytest
from drgn import Architecture, FaultError, Platform, Program

from drgn_vmap.errors import SymbolsError
from drgn_vmap.kernel.types.btf_kind import BtfKind
from drgn_vmap.kernel.types.carried import Carried, searched_tables
from drgn_vmap.kernel.types.kallsyms import Tables, from_tables
from drgn_vmap.kernel.types.vmcoreinfo import Vmcoreinfo
from tests.fakes.btf import Maker
from tests.fakes.kallsyms import TEXTS, Carrier, Form, carrier, noise

FORMS = (
    Form("4.18", "percpu", False, marker=8),
    Form("5.10", "percpu", False),
    Form("5.10 of arm64", "base", False),
    Form("5.10 of s390x", "base", False, order=">"),
    Form("5.10 of 32 bits", "base", False, word=4, align=4),
    Form("6.12", "percpu", True),
    Form("6.15", "base", True),
    Form("7.3", "place", True, align=4),
    Form("without base", "addresses", False),
    Form("without base, 32 bits", "addresses", False, word=4, align=4),
    Form("without base, behind", "addresses", True),
)
SYMBOLS = 3000
DAMAGED = 8  # of each form
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def start_of(form: Form) -> int:
    """Return where its image begins, which is its _stext."""
    return 0xFFFFFFFFB4200000 if form.word == 8 else 0xC0200000


def symbols_of(form: Form) -> list[tuple[int, bytes]]:
    """Return symbols such as a kernel has."""
    start = start_of(form)
    rng = random.Random(SYMBOLS)
    found = [(start, b"T_stext"), (start, b"T_text")]
    if form.kind == "percpu":
        found = [(0, b"Afixed_percpu_data"), (0x2000, b"Acpu_number"), *found]
    at = start
    for number in range(SYMBOLS):
        at += rng.randrange(4096)
        found.append((at, b"tsymbol_%d" % rng.randrange(10 ** rng.randrange(1, 9))))
    return [
        *found,
        (at + 64, b"Dinit_uts_ns"),
        (at + 64, b"Dother"),
        (at + 80, b"Bend"),
    ]


def vmcoreinfo_of(symbols: list[tuple[int, bytes]]) -> Vmcoreinfo:
    """Return what the kernel would have noted down: also some other addresses."""
    address = {name[1:].decode(): at for at, name in symbols}
    said = [(name, address[name]) for name in ("_stext", "init_uts_ns")]
    said += [("swapper_pg_dir", address["end"]), ("mem_section", 0x1000)]
    lines = [f"SYMBOL({name})={at:x}\n" for name, at in said]
    return Vmcoreinfo("".join(lines).encode())


def program(form: Form, data: bytes) -> Program:
    """Return a program with this image as its memory, and none beside."""
    architecture = Architecture.X86_64 if form.word == 8 else Architecture.I386
    if form.order == ">":
        architecture = Architecture.S390X
    prog = Program(Platform(architecture))

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        if offset + count > len(data):
            raise FaultError("not there", address)
        return data[offset : offset + count]

    size = -(-len(data) // 4096) * 4096
    data += bytes(size - len(data))
    prog.add_memory_segment(start_of(form), size, read, False)
    return prog


def found_in(form: Form, data: bytes) -> Optional[Tables]:
    """Return what the search finds."""
    return searched_tables(program(form, data), vmcoreinfo_of(symbols_of(form)))


@lru_cache(maxsize=None)
def made(form: Form) -> Carrier:
    """Return the image of such a kernel."""
    return carrier(form, start_of(form), symbols_of(form))


@forms
def test_found(form: Form) -> None:
    """Each part is where it was put, and the symbols are those that were put there."""
    image = made(form)
    tables = found_in(form, image.data)
    assert tables == image.places
    info = vmcoreinfo_of(symbols_of(form))
    read = from_tables(program(form, image.data), image.places, info)
    names = [(read.name(index) or "").encode() for index in range(len(read.starts))]
    assert [*zip(read.starts.tolist(), names)] == [
        (address, name[1:]) for address, name in symbols_of(form)
    ]


@forms
def test_of_another_kernel(form: Form) -> None:
    """A table that says other addresses than VMCOREINFO is none."""
    symbols = symbols_of(form)
    moved = [(at + 16 if name == b"Dinit_uts_ns" else at, name) for at, name in symbols]
    image = carrier(form, start_of(form), sorted(moved, key=lambda one: one[0]))
    assert found_in(form, image.data) is None


@forms
def test_damaged(form: Form) -> None:
    """
    With some bytes changed anywhere in it, it is found where it is, or not at all; and
    its addresses ascend.
    """
    image = made(form)
    rng = random.Random(form.name)
    low = min(image.places.values()) - start_of(form) - 64
    missed = []
    for _ in range(DAMAGED):
        data = bytearray(image.data)
        at = rng.randrange(low, len(data) - 5000)
        count = rng.choice((1, 1, 4, 64, 4096))
        data[at : at + count] = rng.choice((bytes(count), noise(rng, count)))
        tables = found_in(form, bytes(data))
        missed.append(tables is None)
        assert tables in (None, image.places)
    assert any(missed) and not all(missed)


@forms
def test_nothing_there(form: Form) -> None:
    """An image of noise, or of nothing, has none; nor has one of which no page is there."""
    assert found_in(form, noise(random.Random(form.name), 1 << 20)) is None
    assert found_in(form, bytes(1 << 20)) is None
    assert found_in(form, b"") is None


@forms
def test_token_that_no_two_make(form: Form) -> None:
    """One letter of a text that many names share makes other names of them all."""
    image = made(form)
    at = image.places["kallsyms_token_table"] - start_of(form)
    at += sum(len(text) + 1 for text in TEXTS[: TEXTS.index(b"alloc")])
    data = bytearray(image.data)
    assert data[at : at + 5] == b"alloc"
    data[at + 4] ^= 2
    assert found_in(form, bytes(data)) is None


@pytest.mark.parametrize("strange, byte", [(0, b"_"), (40, b"_"), (0, b"\x80")])
def test_names_and_types_of_one_kernel(strange: int, byte: bytes) -> None:
    """
    BTF of whose functions many have no name is not that of these names, or damaged; so is
    that which has other bytes in its texts.
    """
    form = FORMS[1]
    maker, symbols = Maker(), symbols_of(form)
    prototype = maker.add(BtfKind.FUNC_PROTO)
    for number, (_, name) in enumerate(symbols[4:]):
        other = "strange_" if number < strange else ""
        maker.add(BtfKind.FUNC, other + name[1:].decode(), prototype)
    btf, image = maker.data().replace(b"_", byte), made(form)
    ends: list[tuple[int, bytes]] = []
    while ends != (ends := btf_symbols(form, image, len(btf))):
        image = carrier(form, start_of(form), sorted([*symbols, *ends]))
    data = image.data + bytes(-len(image.data) % 4096) + btf
    carried = Carried(program(form, data))
    vars(carried)["vmcoreinfo"] = vmcoreinfo_of(symbols)
    if strange or byte != b"_":
        with pytest.raises(SymbolsError, match="do not go together"):
            carried.types
        return
    assert carried.types.data.find(BtfKind.FUNC, symbols[-1][1][1:].decode())


def btf_symbols(form: Form, image: Carrier, size: int) -> list[tuple[int, bytes]]:
    """Return the symbols that say where BTF is: on the pages behind an image."""
    start = start_of(form) + -(-len(image.data) // 4096) * 4096
    return [(start, b"D__start_BTF"), (start + size, b"D__stop_BTF")]


@pytest.mark.parametrize(
    "symbol, lacks",
    [(b"Dinit_task", "DEBUG_INFO_BTF"), (b"Dinit_tusk", "KALLSYMS_ALL")],
)
def test_names_without_types(symbol: bytes, lacks: str) -> None:
    """A kernel that was built without BTF, or without what it takes, is said to be so."""
    form, symbols = FORMS[1], symbols_of(FORMS[1])
    symbols.append((symbols[-1][0] + 64, symbol))
    image = carrier(form, start_of(form), symbols)
    carried = Carried(program(form, image.data))
    vars(carried)["vmcoreinfo"] = vmcoreinfo_of(symbols_of(form))
    with pytest.raises(SymbolsError, match=rf"built without .*{lacks}.*: install"):
        carried.types
