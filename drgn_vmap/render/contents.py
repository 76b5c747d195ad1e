# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Contents
--------

What memory holds: as hex, as words with names, as strings, and as JSON. Each takes pieces
one after the other, and keeps no more of them than it must.
"""

import re
import struct
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from ..model.contents import Piece
from .escape import printable

__all__ = ("hex_text", "pieces_json", "strings_text", "words_text")

_LINE_BYTES = 16
_LEAST_STRING = 4
_LONGEST_STRING = 4096
_STRING = re.compile(rb"[\x20-\x7e\t]{%d,}" % _LEAST_STRING)
_AT_END = re.compile(rb"[\x20-\x7e\t]+\Z")
_SHOWN = bytes(c if 0x20 <= c < 0x7F else ord(".") for c in range(256))
_REPEATED = "*\n"

Namer = Callable[[List[int]], Dict[int, str]]
"""Names those of some addresses that a symbol covers."""


def hex_text(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield lines of 16 bytes; one line for those that repeat the line above, and a hole."""
    return _folded(pieces, _hex_lines)


def words_text(
    pieces: Iterable[Piece], order: str, size: int, name: Namer
) -> Iterator[str]:
    """
    Yield a line for each word, with the symbol that it points to.

    :param order: ``<`` or ``>``, of the bytes of a word.
    :param size: Bytes of a word: 4 or 8.
    """

    def lines(start: int, data: bytes) -> Iterator[Tuple[bytes, str]]:
        whole = len(data) // size
        words = struct.unpack_from(f"{order}{whole}{'Q' if size == 8 else 'I'}", data)
        names = name(sorted(set(words)))
        for index, word in enumerate(words):
            text = f"{start + index * size:016x}  {word:0{2 * size}x}"
            named = names.get(word)
            yield data[index * size : (index + 1) * size], (
                f"{text}  {printable(named)}" if named else text
            )
        rest = data[whole * size :]
        if rest:
            yield rest, f"{start + whole * size:016x}  {rest.hex(' ')}"

    return _folded(pieces, lines)


def strings_text(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield a line for each run of four or more printable ASCII characters."""
    rest, end = b"", 0
    for piece in pieces:
        if piece.start != end or piece.data is None:
            yield from _strings(end, rest)
            rest = b""
        end = piece.end
        data = rest + (piece.data or b"")
        # A string may go on in the next piece.
        ends_with = _AT_END.search(data, max(0, len(data) - _LONGEST_STRING))
        whole = ends_with.start() if ends_with else len(data)
        rest = data[whole:]
        yield from _strings(end - len(rest), data[:whole])
    yield from _strings(end, rest)


def pieces_json(pieces: Iterable[Piece]) -> List[Dict[str, Any]]:
    """Return pieces as JSON has them: bytes in hexadecimal, or why there are none."""
    found: List[Dict[str, Any]] = []
    for piece in pieces:
        values = {"start": f"{piece.start:#x}", "end": f"{piece.end:#x}"}
        if piece.data is None:
            values["missing"] = piece.missing
        else:
            values["data"] = piece.data.hex()
        found.append(values)
    return found


def _hex_lines(start: int, data: bytes) -> Iterator[Tuple[bytes, str]]:
    """Yield each line's bytes and its text; addresses are multiples of what a line has."""
    skip = start % _LINE_BYTES
    for at in range(-skip, len(data), _LINE_BYTES):
        line = data[max(at, 0) : at + _LINE_BYTES]
        before = max(-at, 0)
        shown = " " * 3 * before + line.hex(" ")
        text = " " * before + line.translate(_SHOWN).decode()
        yield line, f"{start + at:016x}  {shown:{3 * _LINE_BYTES - 1}}  |{text}|"


def _folded(
    pieces: Iterable[Piece],
    lines: Callable[[int, bytes], Iterator[Tuple[bytes, str]]],
) -> Iterator[str]:
    """Yield lines, one for all that repeat the one above, and one for each hole."""
    last: Optional[bytes] = None
    is_folded = False
    end = 0
    for piece in pieces:
        end = piece.end
        if piece.data is None:
            yield f"{piece.start:016x}-{piece.end:016x}  {printable(piece.missing)}\n"
            last, is_folded = None, False
            continue
        text: List[str] = []
        for raw, line in lines(piece.start, piece.data):
            if raw != last:
                text.append(f"{line}\n")
            elif not is_folded:
                text.append(_REPEATED)
            is_folded = raw == last
            last = raw
        yield "".join(text)
    # As hexdump does, for what is folded up to there.
    yield f"{end:016x}\n"


def _strings(end: int, data: bytes) -> Iterator[str]:
    start = end - len(data)
    for found in _STRING.finditer(data):
        yield f"{start + found.start():016x}  {printable(found[0].decode())}\n"
