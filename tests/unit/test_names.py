# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names that the kernel keeps packed."""

from __future__ import annotations

import pytest

from drgn_vmap.kernel.types.names import PackedNames, PlainNames
from tests.fakes.kallsyms import TOKENS, packed, table, with_length

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
    for head in (b"v", b"vm", b"do_do_", b"vmap_init", LONG[:-1], b"nothing"):
        wanted = [index for index, one in enumerate(plain) if one.startswith(head)]
        assert found.beginning_with(head) == wanted
        text = b"\n" + b"\n".join(NAMES) + b"\n"
        assert PlainNames(text).beginning_with(head) == wanted
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
