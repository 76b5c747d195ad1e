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
from typing import List, Mapping, Optional, Sequence, Union

from drgn import (
    Program,
    Symbol,
    SymbolBinding,
    SymbolKind,
)

from ..._numpy import Array, U64Array, np
from ...errors import SymbolsError
from ..doors import door
from .names import PackedNames, PlainNames
from .vmcoreinfo import Vmcoreinfo

__all__ = (
    "TOKENS",
    "Kallsyms",
    "Tables",
    "from_proc",
    "from_tables",
    "known_tables",
)

Tables = Mapping[str, int]
"""The address of each part of the symbol table, by the name of its variable."""

_TABLES = (
    "kallsyms_names",
    "kallsyms_token_table",
    "kallsyms_token_index",
    "kallsyms_num_syms",
    "kallsyms_offsets",
)
_OPTIONAL_TABLES = ("kallsyms_relative_base",)
_PROC = Path("/proc/kallsyms")
_MAX_SYMBOLS = 4_000_000
_LONGEST_NAME = 512
"""KSYM_NAME_LEN."""
_MAX_GAP = 1 << 30
"""Between symbols; per-CPU ones may be numbers far below the kernel image."""
_USUAL_NAME = 64
"""More bytes than compressed names have on average."""
TOKENS = 256

_VARIANT = re.compile(r"(\.(isra|constprop|part|llvm|lto_priv)\.\d+)+")
"""
What compilers put behind the name of a function that they changed. Code that is hardly
ever run (``.cold``) is no function.
"""
_FUNCTION_TYPES = "tTwW"
_OBJECT_TYPES = "bBdDrRgGsSnvV"


class Kallsyms:
    """
    Symbols of the kernel image.

    :param starts: Address of each symbol, ascending.
    :param names: Its type (as in nm(1)) and its name, in the same order.
    """

    def __init__(self, starts: U64Array, names: Union[PackedNames, PlainNames]) -> None:
        self.starts = starts
        self._names = names
        if len(names) != len(starts):
            raise _damaged(f"{len(starts)} symbols, {len(names)} names")

    def name(self, index: int) -> str:
        """Return the name of a symbol."""
        return self._names.line(index)[1:].decode("utf-8", "backslashreplace")

    def find(
        self, prog: Program, name: Optional[str], address: Optional[int], one: bool
    ) -> List[Symbol]:
        """Find symbols, as :meth:`drgn.Program.register_symbol_finder()` asks for."""
        if name is not None:
            raw = name.encode("utf-8", "surrogateescape")
            indices: Sequence[int] = self._names.indices(raw)
        elif address is not None:
            indices = self._around(address)
        else:
            indices = range(len(self.starts))
        found = [self._symbol(index) for index in indices[: 1 if one else None]]
        if name is not None and address is not None:
            found = [s for s in found if s.address <= address < s.address + s.size]
        return found

    def variants(self, name: str) -> List[Symbol]:
        """Return the symbols of what the compiler made of a function."""
        some = self._names.beginning_with(name.encode() + b".")
        return [
            self._symbol(index)
            for index in some
            if _VARIANT.fullmatch(self.name(index)[len(name) :])
        ]

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
        letter = self._names.line(index)[:1].decode("ascii", "replace") or "?"
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


def known_tables(prog: Program, vmcoreinfo: Vmcoreinfo) -> Optional[Tables]:
    """Return the addresses that VMCOREINFO or vmlinux tells; None if neither does."""
    # Since Linux kernel commit f09bddbd8661 ("vmcoreinfo: add kallsyms_num_syms
    # symbol") (in v6.0), VMCOREINFO has them all; before, only vmlinux has.
    found = {
        name: vmcoreinfo.symbols[name]
        for name in (*_TABLES, *_OPTIONAL_TABLES)
        if name in vmcoreinfo.symbols
    }
    if all(name in found for name in _TABLES):
        return found
    for name in (*_TABLES, *_OPTIONAL_TABLES):
        symbols = prog.symbols(name)
        if symbols:
            found[name] = symbols[0].address
        elif name in _TABLES:
            return None
    return found


def from_proc() -> Kallsyms:
    """
    Return what the running kernel prints of its symbol table.

    :raises SymbolsError: if it shows no addresses.
    """
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
    return Kallsyms(starts, PlainNames(b"\n" + names + b"\n"))


def from_tables(prog: Program, tables: Tables) -> Kallsyms:
    """
    Read the symbols of the kernel image.

    :raises SymbolsError: if they make no sense.
    :raises Fault: if they cannot be read.
    """
    order = "<" if prog.type("unsigned int").byteorder == "little" else ">"
    with door():
        count = prog.read_u32(tables["kallsyms_num_syms"])
    if not 0 < count < _MAX_SYMBOLS:
        raise _damaged(f"{count} symbols")
    starts = _starts(prog, tables, count, order)
    return Kallsyms(starts, _names(prog, tables, count, order))


def _starts(prog: Program, tables: Tables, count: int, order: str) -> U64Array:
    """Return the address of each symbol, ascending."""
    if "kallsyms_addresses" in tables:
        # Of kernels without CONFIG_KALLSYMS_BASE_RELATIVE.
        size = 8 if prog.type("unsigned long").size == 8 else 4
        with door():
            raw = prog.read(tables["kallsyms_addresses"], size * count)
        return np.frombuffer(raw, f"{order}u{size}").astype(np.uint64)
    with door():
        raw = prog.read(tables["kallsyms_offsets"], 4 * count)
    return _addresses(prog, tables, np.frombuffer(raw, f"{order}i4"))


def _addresses(prog: Program, tables: Tables, offsets: Array) -> U64Array:
    """Return the address of each symbol, ascending."""
    distance = offsets.astype(np.int64).astype(np.uint64)
    try:
        where = tables["kallsyms_relative_base"]
    except KeyError:
        # Since Linux kernel commit a081b5789255 ("kallsyms: Get rid of kallsyms
        # relative base") (in v7.0), each is the distance from the place it is kept at.
        place = np.arange(len(offsets), dtype=np.uint64) * np.uint64(4)
        return np.uint64(tables["kallsyms_offsets"]) + place + distance
    with door():
        base = np.uint64(prog.read_word(where))
    # Until Linux kernel commit 01157ddc58dc ("kallsyms: Remove
    # KALLSYMS_ABSOLUTE_PERCPU") (in v6.15), SMP x86-64 kept per-CPU symbols as
    # positive numbers, and others as negative distances from base - 1. No
    # image is so large that a plain distance would look negative.
    if (offsets < 0).any():
        return np.where(offsets >= 0, distance, base + ~distance)
    return base + distance


def _names(prog: Program, tables: Tables, count: int, order: str) -> PackedNames:
    start = tables["kallsyms_names"]
    # What follows the names is one of the other tables.
    behind = [address for address in tables.values() if address > start]
    size = min(min(behind, default=1 << 64) - start, _LONGEST_NAME * count)
    if not behind:
        size = _USUAL_NAME * count
    tokens = _tokens(prog, tables, order)
    with door():
        data = prog.read(start, size)
    try:
        return PackedNames(data, count, tokens, order)
    except IndexError:
        raise _damaged("its names have no end") from None


def _tokens(prog: Program, tables: Tables, order: str) -> List[bytes]:
    """Return the text that each byte of a compressed name stands for."""
    with door():
        raw = prog.read(tables["kallsyms_token_index"], 2 * TOKENS)
        starts = np.frombuffer(raw, f"{order}u2").tolist()
        table = prog.read(tables["kallsyms_token_table"], max(starts) + _LONGEST_NAME)
    return [table[start : table.find(b"\0", start)] for start in starts]


def _damaged(what: str) -> SymbolsError:
    return SymbolsError(
        f"the kernel's symbol table is damaged ({what}): install the kernel's debug "
        "info, or name its vmlinux with drgn -s"
    )
