# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names that are packed as scripts/kallsyms.c of the kernel packs them."""

from __future__ import annotations

import struct
from typing import Iterable

import pytest

from drgn_vmap.kernel.names import PackedNames

#: A byte stands for itself, but those above ASCII for something longer.
TOKENS = [bytes([byte]) for byte in range(128)]
TOKENS += [b"Tvm", b"vmap", b"alloc", b"", b"_", b"very_long_", *[b"xyz"] * 122]
LONG = b"very_long_" * 30

NAMES = [
    *(b"T%s%d" % (b"do_" * (i % 5), i) for i in range(1000)),
    b"Tvmap_init",
    b"tvmap_init",
    b"Dv",
    b"T" + LONG,
    b"dvmalloc_base",
    *(b"tlast_%d" % i for i in range(300)),
]


def packed(name: bytes) -> bytes:
    """Pack a name, with the tokens that fit where they fit."""
    codes = bytearray()
    while name:
        fitting = [code for code in range(134) if TOKENS[code] and code != 132]
        code = max(
            (code for code in fitting if name.startswith(TOKENS[code])),
            key=lambda code: len(TOKENS[code]),
        )
        codes.append(code)
        name = name[len(TOKENS[code]) :]
    return bytes(codes)


def with_length(codes: bytes) -> bytes:
    """Put the length of a packed name in front of it."""
    if len(codes) < 128:
        return bytes([len(codes)]) + codes
    return bytes([0x80 | len(codes) & 0x7F, len(codes) >> 7]) + codes


def table(names: Iterable[bytes], order: str, between: bytes = b"") -> bytes:
    """Return all names, and behind them what else the kernel keeps there."""
    data, markers = bytearray(), []
    for index, name in enumerate(names):
        if index % 256 == 0:
            markers.append(len(data))
        # In letters, the long name takes more than a byte can count.
        codes = name if name[1:] == LONG else packed(name)
        data += with_length(codes)
    return (
        bytes(data)
        + bytes(-len(data) % 8)
        + between
        + b"".join(struct.pack(f"{order}I", marker) for marker in markers)
    )


TABLES = {
    "with markers": (table(NAMES, "<"), "<"),
    "big endian": (table(NAMES, ">"), ">"),
    "something in between": (table(NAMES, "<", bytes(range(1, 80))), "<"),
    "markers of others": (table(NAMES, ">"), "<"),
    "wrong markers": (table(NAMES, "<")[:-4] + b"\x07\0\0\0", "<"),
    "no markers": (table(NAMES, "<")[: -4 * (len(NAMES) // 256)], "<"),
}


@pytest.mark.parametrize("data, order", TABLES.values(), ids=TABLES)
def test_names(data: bytes, order: str) -> None:
    """Each name is what was packed, and is found, with or without markers."""
    found = PackedNames(data, len(NAMES), TOKENS, order)
    assert len(found) == len(NAMES)
    assert [found.line(index) for index in range(len(NAMES))] == NAMES
    plain = [name[1:] for name in NAMES]
    for name in (*plain[::37], b"vmap_init", b"v", b"vmalloc_base", LONG, b"last_299"):
        expected = [index for index, one in enumerate(plain) if one == name]
        assert found.indices(name) == expected != []
    for name in (b"vma", b"vmap_ini", b"vmap_init_", b"", LONG[:-1], b"T"):
        assert found.indices(name) == []


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1024])
def test_fewer(count: int) -> None:
    """Any number of names can be had."""
    some = NAMES[:count]
    found = PackedNames(table(some, "<"), count, TOKENS, "<")
    assert [found.line(index) for index in range(count)] == some
    assert found.indices(b"nothing") == []


def test_cut_short() -> None:
    """Names that are not all there are refused."""
    data = b"".join(with_length(packed(name)) for name in NAMES)
    PackedNames(data, len(NAMES), TOKENS, "<")
    for size in (0, 1, len(data) - 1):
        with pytest.raises(IndexError):
            PackedNames(data[:size], len(NAMES), TOKENS, "<")
