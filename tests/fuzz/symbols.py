# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The symbols of a sample, read by the format alone (scripts/kallsyms.c), and not by the
code under test.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import Iterator, Sequence

from tests.fakes.kallsyms import numbers

from .image import Image
from .inputs import Edit, Note, Write
from .places import Places

__all__ = ("SymbolTable", "TableEntry")

_NAMES_A_MARKER = 256
_ALIGN = 8
_BASE = "kallsyms_relative_base"


@dataclass(frozen=True)
class TableEntry:
    """A symbol, and how its name is kept."""

    name: str
    address: int
    packed: bytes
    """Its length, type and name."""
    at: int
    """Where in the file these are."""


class SymbolTable:
    """The symbol table of a sample."""

    def __init__(self, image: Image, places: Places) -> None:
        self._image = image
        self._places = places
        text = image.vmcoreinfo.decode()
        self.parts = {
            name: int(value, 16)
            for name, value in re.findall(r"(?m)^SYMBOL\((kallsyms_\w+)\)=(\w+)$", text)
        }
        """The address of each part, by its variable, as VMCOREINFO has it."""
        (self._count,) = self._numbers("kallsyms_num_syms", "I")
        self._base = 0
        if _BASE in self.parts:
            (self._base,) = self._numbers(_BASE, "Q")
        self._offsets = self._numbers("kallsyms_offsets", f"{self._count}i")
        # Per-CPU variables are numbers then, and others count down from the base.
        self._has_numbers = min(self._offsets) < 0
        self._index = self._numbers("kallsyms_token_index", "256H")

    def place(self, part: str) -> int:
        """Return where in the file a part of the table is."""
        at = self._places.offset(self.parts[part])
        assert at is not None
        return at

    def entries(self) -> Iterator[TableEntry]:
        """Yield all symbols, in order."""
        data, at = self._image.data, self.place("kallsyms_names")
        table = self.place("kallsyms_token_table")
        tokens = [
            data[table + start : data.index(b"\0", table + start)]
            for start in self._index
        ]
        start = self.parts["kallsyms_offsets"]
        for row, offset in enumerate(self._offsets):
            begin, size = at, data[at]
            at += 1
            if size & 0x80:
                size = size & 0x7F | data[at] << 7
                at += 1
            # The first byte is the type.
            name = b"".join([tokens[code] for code in data[at : at + size]])[1:]
            at += size
            address = self._address(offset, start + 4 * row)
            yield TableEntry(name.decode(), address, data[begin:at], begin)

    def only(self, entries: Sequence[TableEntry]) -> Iterator[Edit]:
        """Yield what leaves no symbols but these, and VMCOREINFO that says where."""
        start = self.parts["kallsyms_names"]
        places, data = {}, b""

        def put(part: str, content: bytes) -> None:
            nonlocal data
            places[part] = start + len(data)
            data += content + bytes(-len(content) % _ALIGN)

        ends = accumulate(len(entry.packed) for entry in entries)
        table = self.place("kallsyms_token_table")
        last = self._image.data.index(b"\0", table + self._index[-1])
        put("kallsyms_num_syms", numbers([len(entries)], "<I"))
        put("kallsyms_names", b"".join(entry.packed for entry in entries))
        put("kallsyms_markers", numbers([0, *ends][:-1][::_NAMES_A_MARKER], "<I"))
        put("kallsyms_token_table", self._image.data[table : last + 1])
        put("kallsyms_token_index", numbers(self._index, "<H"))
        put(_BASE, numbers([self._base], "<Q"))
        at = start + len(data)
        offsets = [
            self._offset(entry.address, at + 4 * row)
            for row, entry in enumerate(entries)
        ]
        put("kallsyms_offsets", numbers(offsets, "<i"))
        yield Write(self.place("kallsyms_names"), data.hex(), "symbols")
        text = self._image.vmcoreinfo.decode()
        for part in self.parts:
            line = f"SYMBOL({part})={places[part]:x}"
            text = re.sub(rf"(?m)^SYMBOL\({part}\)=.*$", line, text)
        yield Note(text.encode().hex())

    def _address(self, offset: int, place: int) -> int:
        """Return an address; what is kept of it, and where, tell it."""
        if _BASE not in self.parts:
            return place + offset
        if self._has_numbers:
            return offset if offset >= 0 else self._base - 1 - offset
        return self._base + offset

    def _offset(self, address: int, place: int) -> int:
        """Return what is kept of an address at a place."""
        if _BASE not in self.parts:
            return address - place
        if self._has_numbers:
            return address if address < self._base else self._base - 1 - address
        return address - self._base

    def _numbers(self, part: str, form: str) -> tuple[int, ...]:
        return struct.unpack_from(f"<{form}", self._image.data, self.place(part))
