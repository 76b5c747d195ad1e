# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kallsyms
--------

The symbol table that a kernel carries (kernel/kallsyms.c), with the names of all its
functions and variables. It is read in one go, where drgn's own reader takes several
times as long, and keeps the order that decides which name %pS prints.
"""

import re
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from drgn import (
    Program,
    ProgramFlags,
    Symbol,
    SymbolBinding,
    SymbolKind,
)

from .._numpy import Array, U64Array, np
from ..errors import SymbolsError

__all__ = ("Kallsyms", "kallsyms_tables", "kernel_kallsyms")

_TABLES = (
    "kallsyms_names",
    "kallsyms_token_table",
    "kallsyms_token_index",
    "kallsyms_num_syms",
    "kallsyms_offsets",
)
_OPTIONAL_TABLES = ("kallsyms_relative_base",)
_CACHE_KEY = "drgn_vmap.kallsyms"
_PROC = Path("/proc/kallsyms")
_MAX_SYMBOLS = 4_000_000
_LONGEST_NAME = 512
"""KSYM_NAME_LEN."""
_MAX_GAP = 1 << 30
"""Between symbols; per-CPU ones may be numbers far below the kernel image."""
_USUAL_NAME = 64
"""More bytes than compressed names have on average."""
_TOKENS = 256
_NEWLINE, _NOTHING = _TOKENS, _TOKENS + 1
"""Tokens of our own, which stand in the place of lengths."""

_FUNCTION_TYPES = "tTwW"
_OBJECT_TYPES = "bBdDrRgGsSnvV"


class Kallsyms:
    """
    Symbols of the kernel image.

    :param starts: Address of each symbol, ascending.
    :param text: A line for each, its type (as in nm(1)) and its name, in the same
        order, with a newline at both ends.
    """

    def __init__(self, starts: U64Array, text: bytes) -> None:
        self.starts = starts
        self._text = text
        newlines = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        self._lines = newlines[:-1] + 1
        if len(self._lines) != len(starts):
            raise _damaged(f"{len(starts)} symbols, {len(self._lines)} names")

    def name(self, index: int) -> str:
        """Return the name of a symbol."""
        start = int(self._lines[index]) + 1
        raw = self._text[start : self._text.index(b"\n", start)]
        return raw.decode("utf-8", "backslashreplace")

    def indices(self, name: str) -> List[int]:
        """Return which symbols have a name."""
        line = name.encode("utf-8", "surrogateescape") + b"\n"
        found = []
        at = self._text.find(line)
        while at > 0:
            # Before a name there is its type, and a newline before that.
            if self._text[at - 2 : at - 1] == b"\n":
                found.append(at - 1)
            at = self._text.find(line, at + 1)
        indices: List[int] = np.searchsorted(self._lines, found).tolist()
        return indices

    def find(
        self, prog: Program, name: Optional[str], address: Optional[int], one: bool
    ) -> List[Symbol]:
        """Find symbols, as :meth:`drgn.Program.register_symbol_finder()` asks for."""
        if name is not None:
            indices: Sequence[int] = self.indices(name)
        elif address is not None:
            indices = self._around(address)
        else:
            indices = range(len(self.starts))
        found = [self._symbol(index) for index in indices[: 1 if one else None]]
        if name is not None and address is not None:
            found = [s for s in found if s.address <= address < s.address + s.size]
        return found

    def _around(self, address: int) -> List[int]:
        """Return the symbols whose range holds an address, the first one first."""
        starts, at = self.starts, np.uint64(address)
        end = int(np.searchsorted(starts, at, side="right"))
        if end in (0, len(starts)) or int(starts[end]) - address > _MAX_GAP:
            return []
        first = int(np.searchsorted(starts, starts[end - 1], side="left"))
        return list(range(first, end))

    def _symbol(self, index: int) -> Symbol:
        start = self.starts[index]
        following = int(np.searchsorted(self.starts, start, side="right"))
        ends = self.starts[following : following + 1].tolist()
        size = ends[0] - int(start) if ends else 0
        size = size if size <= _MAX_GAP else 0
        letter = chr(self._text[self._lines[index]])
        binding, kind = SymbolBinding.UNKNOWN, SymbolKind.UNKNOWN
        if letter in "vVwW":
            binding = SymbolBinding.WEAK
        elif letter.isupper():
            binding = SymbolBinding.GLOBAL
        if letter in _FUNCTION_TYPES:
            kind = SymbolKind.FUNC
        elif letter in _OBJECT_TYPES:
            kind = SymbolKind.OBJECT
        return Symbol(self.name(index), int(start), size, binding, kind)


def kernel_kallsyms(prog: Program) -> Kallsyms:
    """
    Return the symbols of a kernel image.

    :raises SymbolsError: if they cannot be found.
    :raises FaultError: if they cannot be read.
    """
    # They do not change as long as the kernel runs.
    if _CACHE_KEY not in prog.cache:
        tables = kallsyms_tables(prog)
        prog.cache[_CACHE_KEY] = (
            _from_tables(prog, tables) if tables else _from_proc(prog)
        )
    found: Kallsyms = prog.cache[_CACHE_KEY]
    return found


def kallsyms_tables(prog: Program) -> Optional[Dict[str, int]]:
    """Return the address of each of the kernel's tables; None if they are not known."""
    # Since Linux kernel commit f09bddbd8661 ("vmcoreinfo: add kallsyms_num_syms
    # symbol") (in v6.0), VMCOREINFO has them all; before, only vmlinux has.
    text = prog["VMCOREINFO"].string_().decode("ascii", "replace")
    pairs = re.findall(r"^SYMBOL\((kallsyms_\w+)\)=([0-9a-f]+)$", text, re.M)
    found = {name: int(value, 16) for name, value in pairs}
    if all(name in found for name in _TABLES):
        return found
    for name in (*_TABLES, *_OPTIONAL_TABLES):
        try:
            found[name] = prog.symbol(name).address
        except LookupError:
            if name in _TABLES:
                return None
    return found


def _from_proc(prog: Program) -> Kallsyms:
    """Take what a running kernel prints of its table."""
    local = ProgramFlags.IS_LIVE | ProgramFlags.IS_LOCAL
    if prog.flags & local != local:
        raise SymbolsError(
            "there is no debug info, and this kernel's VMCOREINFO (before Linux 6.0) "
            "does not say where its symbol table is: install the kernel's debug info, "
            "or name its vmlinux with drgn -s"
        )
    # Modules come last, and only their lines have a tab.
    text = b"\n" + _PROC.read_bytes().partition(b"\t")[0].rpartition(b"\n")[0] + b"\n"
    lines = re.findall(rb"\n([0-9a-f]+) (.) (.*)", text)
    starts = np.array([int(address, 16) for address, _, _ in lines], np.uint64)
    if not starts.any():
        raise SymbolsError(
            "/proc/kallsyms shows no addresses: set kernel.kptr_restrict to 0 or 1, or "
            "install the kernel's debug info"
        )
    names = b"\n".join(letter + name for _, letter, name in lines)
    return Kallsyms(starts, b"\n" + names + b"\n")


def _from_tables(prog: Program, tables: Dict[str, int]) -> Kallsyms:
    order = "<" if prog.type("unsigned int").byteorder == "little" else ">"
    count = prog.read_u32(tables["kallsyms_num_syms"])
    if not 0 < count < _MAX_SYMBOLS:
        raise _damaged(f"{count} symbols")
    raw = prog.read(tables["kallsyms_offsets"], 4 * count)
    starts = _addresses(prog, tables, np.frombuffer(raw, f"{order}i4"))
    return Kallsyms(starts, _names(prog, tables, count, order))


def _addresses(prog: Program, tables: Dict[str, int], offsets: Array) -> U64Array:
    """Return the address of each symbol, ascending."""
    distance = offsets.astype(np.int64).astype(np.uint64)
    try:
        where = tables["kallsyms_relative_base"]
    except KeyError:
        # Since 7.2 or so, each is the distance from the place it is kept at.
        place = np.arange(len(offsets), dtype=np.uint64) * np.uint64(4)
        return np.uint64(tables["kallsyms_offsets"]) + place + distance
    base = np.uint64(prog.read_word(where))
    # Until Linux kernel commit 01157ddc58dc ("kallsyms: Remove
    # KALLSYMS_ABSOLUTE_PERCPU") (in v6.15), SMP x86-64 kept per-CPU symbols as
    # positive numbers, and others as negative distances from base - 1. No
    # image is so large that a plain distance would look negative.
    if (offsets < 0).any():
        return np.where(offsets >= 0, distance, base - np.uint64(1) - distance)
    return base + distance


def _names(prog: Program, tables: Dict[str, int], count: int, order: str) -> bytes:
    """Return all types and names, each with a newline before it, and one at the end."""
    start = tables["kallsyms_names"]
    # What follows the names is one of the other tables.
    behind = [address for address in tables.values() if address > start]
    size = min(min(behind, default=1 << 64) - start, _LONGEST_NAME * count)
    if not behind:
        size = _USUAL_NAME * count
    data = prog.read(start, size)
    tokens = np.frombuffer(data, np.uint8).astype(np.int16)
    tokens = tokens[: _mark_lengths(data, tokens, count)]
    texts = _tokens(prog, tables, order)
    return _expand(np.append(tokens, _NEWLINE), texts)


def _mark_lengths(data: bytes, tokens: Array, count: int) -> int:
    """
    Put tokens of our own in the places of the names' lengths.

    :return: Where the last name ends.
    """
    starts: List[int] = []
    big: List[int] = []
    at = 0
    try:
        for _ in range(count):
            starts.append(at)
            length = data[at]
            # Since Linux kernel commit 73bbb94466fd ("kallsyms: support "big" kernel
            # symbols") (in v6.1), the high bit says that a second byte follows.
            if length & 0x80:
                big.append(at + 1)
                length = 1 + (length & 0x7F | data[at + 1] << 7)
            at += 1 + length
    except IndexError:
        raise _damaged("its names have no end") from None
    tokens[starts] = _NEWLINE
    tokens[big] = _NOTHING
    return at


def _tokens(prog: Program, tables: Dict[str, int], order: str) -> List[bytes]:
    """Return the text that each byte of a compressed name stands for."""
    raw = prog.read(tables["kallsyms_token_index"], 2 * _TOKENS)
    starts = np.frombuffer(raw, f"{order}u2").tolist()
    table = prog.read(tables["kallsyms_token_table"], max(starts) + _LONGEST_NAME)
    return [table[start : table.find(b"\0", start)] for start in starts] + [b"\n", b""]


def _expand(tokens: Array, texts: List[bytes]) -> bytes:
    """Put texts in the place of tokens."""
    lengths = np.array([len(text) for text in texts], np.int32)
    begins = np.cumsum(lengths, dtype=np.int32) - lengths
    all_texts = np.frombuffer(b"".join(texts), np.uint8)
    size = lengths[tokens]
    at = np.cumsum(size, dtype=np.int32) - size
    source = np.repeat(begins[tokens] - at, size)
    source += np.arange(len(source), dtype=np.int32)
    return all_texts[source].tobytes()


def _damaged(what: str) -> SymbolsError:
    return SymbolsError(
        f"the kernel's symbol table is damaged ({what}): install the kernel's debug "
        "info, or name its vmlinux with drgn -s"
    )
