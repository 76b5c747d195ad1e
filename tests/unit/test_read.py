# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What memory holds, as text
--------------------------

Pieces made by hand, as hex, words, strings and JSON.
"""

import struct
from typing import Dict, List, Optional

import pytest

from drgn_vmap.commands import run
from drgn_vmap.commands.places import find_place
from drgn_vmap.errors import UsageError
from drgn_vmap.kernel.target import Target
from drgn_vmap.model.contents import Piece
from drgn_vmap.render.contents import hex_text, pieces_json, strings_text, words_text
from tests.fakes.kernel import FakeKernel

START = 0xFFFFC90000004000


def piece(start: int, data: bytes) -> Piece:
    return Piece(START + start, len(data), data)


def hole(start: int, size: int, why: str = "not mapped") -> Piece:
    return Piece(START + start, size, None, why)


def test_hex() -> None:
    """16 bytes a line, at multiples of 16; what repeats is folded, a hole is named."""
    pieces = [
        piece(8, b"8 bytes!"),
        piece(16, bytes(64) + bytes(range(16))),
        hole(96, 160),
        piece(256, bytes(32)),
        piece(288, bytes(16)),
    ]
    zeros = " ".join(["00"] * 16)
    assert "".join(hex_text(pieces)).splitlines() == [
        f"ffffc90000004000  {' ' * 24}38 20 62 79 74 65 73 21  |        8 bytes!|",
        f"ffffc90000004010  {zeros}  |................|",
        "*",
        "ffffc90000004050  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f"
        "  |................|",
        "ffffc90000004060-ffffc90000004100  not mapped",
        f"ffffc90000004100  {zeros}  |................|",
        "*",
        "ffffc90000004130",
    ]


def test_hex_of_what_ends_within_a_line() -> None:
    """The text stands in its column."""
    lines = "".join(hex_text([piece(0, b"abc")])).splitlines()
    assert lines == [f"ffffc90000004000  61 62 63{' ' * 39}  |abc|", "ffffc90000004003"]


@pytest.mark.parametrize("order, size", [("<", 8), (">", 8), ("<", 4)])
def test_words(order: str, size: int) -> None:
    """A word a line, in the target's order and size, with the symbol it points to."""
    form = f"{order}4{'Q' if size == 8 else 'I'}"
    words = [0x1234, 0x5678, 0x5678, 0x5678]

    def name(asked: List[int]) -> Dict[int, str]:
        assert asked == [0x1234, 0x5678]
        return {0x1234: "a_function+0x4/0x10"}

    text = "".join(words_text([piece(0, struct.pack(form, *words))], order, size, name))
    assert text.splitlines() == [
        f"ffffc90000004000  {0x1234:0{2 * size}x}  a_function+0x4/0x10",
        f"{START + size:x}  {0x5678:0{2 * size}x}",
        "*",
        f"{START + 4 * size:x}",
    ]


def test_strings() -> None:
    """Four characters or more, also across pieces, but not across holes."""
    pieces = [
        piece(0, b"\0abc\0first\0no\x01second"),
        piece(20, b" and more\0thi"),
        piece(33, b"rd"),
        hole(35, 5),
        piece(40, b"fourth\xff\tgo on"),
    ]
    assert list(strings_text(pieces)) == [
        "ffffc90000004005  first\n",
        "ffffc9000000400e  second and more\n",
        "ffffc9000000401e  third\n",
        "ffffc90000004028  fourth\n",
        "ffffc9000000402f  \\tgo on\n",
    ]


def test_strings_without_end() -> None:
    """What is one string for ever is told in parts, and memory stays bounded."""
    lines = list(strings_text(piece(at << 16, b"x" * (1 << 16)) for at in range(4)))
    assert sum(line.count("x") for line in lines) == 4 << 16
    assert len(lines) > 4


def test_json() -> None:
    """Bytes in hexadecimal, or why there are none."""
    assert pieces_json([piece(0, b"\x01\xff"), hole(2, 2)]) == [
        {"start": "0xffffc90000004000", "end": "0xffffc90000004002", "data": "01ff"},
        {
            "start": "0xffffc90000004002",
            "end": "0xffffc90000004004",
            "missing": "not mapped",
        },
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["no such symbol"],
        ["zzzz"],
        ["phys:zz"],
        ["1" * 17],
        ["ffffc90000004000", "--length", "0"],
        ["ffffc90000004000", "--area", "--length", "8"],
        ["ffffc90000004000", "--area", "--page", "1"],
        ["ffffc90000004000", "--area"],
        ["phys:1000", "--area"],
        ["ffffc90000004000", "--length", "1G", "--json"],
    ],
)
def test_what_cannot_be_read(
    argv: List[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and exit status 2."""
    assert run("read", FakeKernel([]).program(), argv) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith("vmap read: ")


@pytest.mark.parametrize(
    "text, offset",
    [
        ("table", 0),
        ("table+8", 8),
        ("table+08", 8),
        ("table+0x0a", 10),
        ("table+0XA", 10),
        ("table+" + "1" * 5000, None),
        ("table+0x" + "1" * 5000, None),
        ("table+-1", None),
        ("table+\u0663", None),
    ],
)
def test_offset_of_a_symbol(
    text: str, offset: Optional[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset is hexadecimal with 0x, else decimal, and no more than an address."""
    monkeypatch.setattr(Target, "symbol_address", {"table": START}.get)
    target = Target(FakeKernel([]).program())
    if offset is None:
        with pytest.raises(UsageError, match="no symbol"):
            find_place(target, text)
    else:
        assert find_place(target, text).address == START + offset
