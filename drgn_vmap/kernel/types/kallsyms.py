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
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from drgn import (
    Program,
    Symbol,
    SymbolBinding,
    SymbolKind,
)

from ..._numpy import Array, U64Array, np
from ...errors import GET_DEBUG_INFO, Fault, SymbolsError
from ..doors import door
from .heads import TOKENS
from .names import PackedNames, PlainNames
from .torn import Torn
from .torn_names import count_names, find_names
from .torn_reads import read_torn
from .vmcoreinfo import Vmcoreinfo

__all__ = (
    "PROMOTED",
    "Kallsyms",
    "Tables",
    "from_proc",
    "from_tables",
    "known_tables",
    "tables_agree",
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
_RELATIVE_BASE = "kallsyms_relative_base"
_OPTIONAL_TABLES = (_RELATIVE_BASE,)
_ADDRESSES = "kallsyms_addresses"
_NEEDED = ("_stext", "init_uts_ns")
"""Symbols that VMCOREINFO has of each kernel."""
_OF_VALUES = ("mem_section",)
"""What it has under the name of a symbol is what that one points at."""
_PROC = Path("/proc/kallsyms")
_MAX_SYMBOLS = 4_000_000
_LONGEST_NAME = 512
"""KSYM_NAME_LEN."""
_MAX_GAP = 1 << 30
"""Between symbols; per-CPU ones may be numbers far below the kernel image."""
_USUAL_NAME = 64
"""More bytes than compressed names have on average."""

_VARIANT = re.compile(r"(\.(isra|constprop|part|llvm|lto_priv)\.\d+)+")
"""
What compilers put behind the name of a function that they changed. Code that is hardly
ever run (``.cold``) is no function.
"""
PROMOTED = ".llvm."
"""
What clang's ThinLTO puts behind the name of a function or a variable of one file that others
came to use as well, before a hash.
"""
_FUNCTION_TYPES = "tTwW"
_PROMOTED = PROMOTED.encode()
_OBJECT_TYPES = "bBdDrRgGsSnvV"


class Kallsyms:
    """
    Symbols of the kernel image.

    :param starts: Address of each symbol, ascending.
    :param names: Its type (as in nm(1)) and its name, in the same order.
    :param known: Of which symbols the address is known; the others have that of the one
        before. None if all are.
    """

    def __init__(
        self,
        starts: U64Array,
        names: Union[PackedNames, PlainNames],
        known: Optional[Array] = None,
    ) -> None:
        self.starts = starts
        self._names = names
        # drgn's helpers ask for the same few variables each time that they are called.
        self._asked: Dict[bytes, List[int]] = {}
        self._known = np.ones(len(starts), bool) if known is None else known
        if len(names) != len(starts):
            raise _damaged(f"{len(starts)} symbols, {len(names)} names")

    @property
    def is_torn(self) -> bool:
        """Whether some of them are lost."""
        return self._names.is_torn or not self._known.all()

    def count_missing(self, heads: U64Array) -> int:
        """Return of how many of these first bytes no name is, if they are packed."""
        names = self._names
        return names.count_missing(heads) if isinstance(names, PackedNames) else 0

    def name(self, index: int) -> Optional[str]:
        """Return the name of a symbol; None if it is lost."""
        line = self._names.line(index)
        return None if line is None else line[1:].decode("utf-8", "backslashreplace")

    def around(self, address: int) -> Optional[Tuple[int, int, int]]:
        """
        Find the symbol that %pS names an address by.

        :return: Its index, its address and that of the next one; None if there is none,
            or if any of these is lost.
        """
        starts, at = self.starts, np.uint64(address)
        end = int(np.searchsorted(starts, at, side="right"))
        if end in (0, len(starts)):
            return None
        # Of symbols with the same address the first one names it.
        first = int(np.searchsorted(starts, starts[end - 1], side="left"))
        # One before these of which nothing is known may have the same address.
        if not self._known[max(first - 1, 0) : end + 1].all():
            return None
        return first, int(starts[first]), int(starts[end])

    def find(
        self, prog: Program, name: Optional[str], address: Optional[int], one: bool
    ) -> List[Symbol]:
        """Find symbols, as :meth:`drgn.Program.register_symbol_finder()` asks for."""
        if name is not None:
            raw = name.encode("utf-8", "surrogateescape")
            indices: Sequence[int] = self._indices(raw)
        elif address is not None:
            indices = self._around(address)
        else:
            indices = range(len(self.starts))
        symbols = map(self._symbol, indices[: 1 if one else None])
        found = [symbol for symbol in symbols if symbol is not None]
        if name is not None and address is not None:
            found = [s for s in found if s.address <= address < s.address + s.size]
        return found

    def variants(self, name: str) -> List[Symbol]:
        """Return the symbols of what the compiler made of a function."""
        some = self._names.beginning_with(name.encode() + b".")
        found = (
            self._symbol(index)
            for index in some
            if _VARIANT.fullmatch((self.name(index) or "")[len(name) :])
        )
        return [symbol for symbol in found if symbol is not None]

    def _indices(self, name: bytes) -> List[int]:
        """Return the symbols of this name, or else the one that was promoted."""
        if name not in self._asked:
            found = self._names.indices(name)
            promoted = [] if found else self._names.beginning_with(name + _PROMOTED)
            self._asked[name] = promoted if len(promoted) == 1 else found
        return self._asked[name]

    def _around(self, address: int) -> List[int]:
        """Return the symbols whose range holds an address, the first one first."""
        found = self.around(address)
        if found is None or found[2] - address > _MAX_GAP:
            return []
        first, start, _ = found
        end = int(np.searchsorted(self.starts, np.uint64(start), side="right"))
        return list(range(first, end))

    def _symbol(self, index: int) -> Optional[Symbol]:
        """Return a symbol, None if its name or its address is lost."""
        line = self._names.line(index)
        if line is None or not self._known[index]:
            return None
        start = int(self.starts[index])
        # Without the next one's address its size is not known.
        around = self.around(start)
        size = around[2] - start if around else 0
        size = size if size <= _MAX_GAP else 0
        letter = line[:1].decode("ascii", "replace") or "?"
        binding, kind = SymbolBinding.UNKNOWN, SymbolKind.UNKNOWN
        if letter in "vVwW":
            binding = SymbolBinding.WEAK
        elif letter.isupper():
            binding = SymbolBinding.GLOBAL
        if letter in _FUNCTION_TYPES:
            kind = SymbolKind.FUNC
        elif letter in _OBJECT_TYPES:
            kind = SymbolKind.OBJECT
        name = line[1:].decode("utf-8", "backslashreplace")
        return Symbol(name, start, size, binding, kind)


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

    :raises SymbolsError: if it prints none, or shows no addresses.
    """
    try:
        text = _PROC.read_bytes()
    except FileNotFoundError:
        raise SymbolsError(
            "there is no /proc/kallsyms: this kernel was built without a symbol table "
            f"(CONFIG_KALLSYMS): {GET_DEBUG_INFO}"
        ) from None
    # Modules come last, and only their lines have a tab.
    text = b"\n" + text.partition(b"\t")[0].rpartition(b"\n")[0] + b"\n"
    lines = re.findall(rb"\n([0-9a-f]+) (.) (.*)", text)
    starts = np.array([int(address, 16) for address, _, _ in lines], np.uint64)
    if not starts.any():
        raise SymbolsError(
            "/proc/kallsyms shows no addresses: set kernel.kptr_restrict to 0 or 1, or "
            "install the kernel's debug info"
        )
    names = b"\n".join(letter + name for _, letter, name in lines)
    return Kallsyms(starts, PlainNames(b"\n" + names + b"\n"))


def from_tables(prog: Program, tables: Tables, vmcoreinfo: Vmcoreinfo) -> Kallsyms:
    """
    Read the symbols of the kernel image, what there is of them.

    :raises SymbolsError: if they make no sense.
    :raises Fault: if they cannot be read.
    """
    order = "<" if prog.type("unsigned int").byteorder == "little" else ">"
    tokens = _tokens(prog, tables, order)
    count = _count(prog, tables, order)
    if not 0 < count < _MAX_SYMBOLS:
        raise _damaged(f"{count} symbols")
    packed = _packed_names(prog, tables, count)
    try:
        places = None
        if packed.lost:
            places = find_names(packed, count, tokens, order)
        names = PackedNames(packed.data, count, tokens, order, places)
    except IndexError:
        raise _damaged("its names have no end") from None
    if _ADDRESSES in tables:
        # Of kernels without CONFIG_KALLSYMS_BASE_RELATIVE.
        size = prog.type("unsigned long").size or 8
        raw = read_torn(prog, tables[_ADDRESSES], size * count)
        starts = np.frombuffer(raw.data, f"{order}u{size}").astype(np.uint64)
    else:
        size = 4
        raw = read_torn(prog, tables["kallsyms_offsets"], size * count)
        offsets = np.frombuffer(raw.data, f"{order}i{size}")
        starts = _starts(prog, tables, offsets, raw, names, vmcoreinfo)
    if not raw.lost:
        return Kallsyms(starts, names)
    begins = size * np.arange(count)
    known = ~raw.is_lost(begins, begins + size)
    # Those that are lost lie somewhere behind the last that is known.
    at = np.maximum.accumulate(np.where(known, np.arange(count), 0))
    starts = np.where(known.cumsum() > 0, starts[at], np.uint64(0))
    return Kallsyms(starts, names, known)


def tables_agree(prog: Program, tables: Tables, vmcoreinfo: Vmcoreinfo) -> bool:
    """
    Return whether what is read so can be the symbols of this kernel: their addresses
    ascend, and are those of VMCOREINFO where that has them.
    """
    try:
        found = from_tables(prog, tables, vmcoreinfo)
    except (Fault, SymbolsError):
        return False
    if (found.starts[1:] < found.starts[:-1]).any():
        return False
    known = vmcoreinfo.symbols
    same: Set[str] = set()
    for name in known.keys() - set(_OF_VALUES):
        symbols = found.find(prog, name, None, False)
        if symbols and known[name] not in [symbol.address for symbol in symbols]:
            return False
        same.update(name for _ in symbols[:1])
    return same.issuperset(_NEEDED)


def _count(prog: Program, tables: Tables, order: str) -> int:
    """Return how many symbols there are."""
    try:
        with door():
            return prog.read_u32(tables["kallsyms_num_syms"])
    except Fault:
        packed = _packed_names(prog, tables, _MAX_SYMBOLS)
        at = tables.get("kallsyms_offsets", 1 << 64)
        behind = [address for address in tables.values() if address > at]
        room = (min(behind) - at) // 4 if behind else None
        counted = count_names(packed, order, room)
        if counted is None:
            raise
        return counted


def _base(prog: Program, tables: Tables) -> int:
    """Return what each symbol's offset is counted from."""
    if _RELATIVE_BASE not in tables:
        return tables["kallsyms_offsets"]
    with door():
        return int(prog.read_word(tables[_RELATIVE_BASE]))


def _starts(
    prog: Program,
    tables: Tables,
    offsets: Array,
    raw: Torn,
    names: PackedNames,
    vmcoreinfo: Vmcoreinfo,
) -> U64Array:
    """Return the address of each symbol, ascending, by its offset."""
    try:
        base = _base(prog, tables)
    except Fault as e:
        distances = _addresses(tables, offsets, 0)
        base = _base_by_names(names, distances, raw, vmcoreinfo, e)
    return _addresses(tables, offsets, base)


def _addresses(tables: Tables, offsets: Array, base: int) -> U64Array:
    """Return the address of each symbol, ascending."""
    distance = offsets.astype(np.int64).astype(np.uint64)
    start = np.uint64(base)
    if _RELATIVE_BASE not in tables:
        # Since Linux kernel commit a081b5789255 ("kallsyms: Get rid of kallsyms
        # relative base") (in v7.0), each is the distance from the place it is kept at.
        return (
            start + np.arange(len(offsets), dtype=np.uint64) * np.uint64(4) + distance
        )
    # Until Linux kernel commit 01157ddc58dc ("kallsyms: Remove
    # KALLSYMS_ABSOLUTE_PERCPU") (in v6.15), SMP x86-64 kept per-CPU symbols as
    # positive numbers, and others as negative distances from base - 1. No
    # image is so large that a plain distance would look negative.
    if (offsets < 0).any():
        return np.where(offsets >= 0, distance, start + ~distance)
    return start + distance


def _base_by_names(
    names: PackedNames, distances: U64Array, raw: Torn, vmcoreinfo: Vmcoreinfo, e: Fault
) -> int:
    """
    Find kallsyms_relative_base by the symbols whose addresses VMCOREINFO tells.

    :param distances: From it to each symbol.
    :param raw: The offsets behind these.
    :raises Fault: the one that was there before, if they do not tell it.
    """
    bases = []
    for name, address in vmcoreinfo.symbols.items():
        found = names.indices(name.encode())
        if len(found) == 1 and raw.has(4 * found[0], 4 * found[0] + 4):
            bases.append((address - int(distances[found[0]])) % (1 << 64))
    # mem_section and such are what they point to.
    base = max(bases, key=bases.count, default=0)
    if bases.count(base) < 3 or 2 * bases.count(base) < len(bases):
        raise e
    return base


def _packed_names(prog: Program, tables: Tables, count: int) -> Torn:
    start = tables["kallsyms_names"]
    # What follows the names is one of the other tables.
    behind = [address for address in tables.values() if address > start]
    size = min(min(behind, default=1 << 64) - start, _LONGEST_NAME * count)
    if not behind:
        size = _USUAL_NAME * count
    return read_torn(prog, start, size)


def _tokens(prog: Program, tables: Tables, order: str) -> List[Optional[bytes]]:
    """Return the text that each byte of a compressed name stands for."""
    index_at, table_at = (
        tables[f"kallsyms_token_{name}"] for name in ("index", "table")
    )
    # The index lies behind the table; of both, parts may be lost.
    size = index_at - table_at
    if not 0 < size <= TOKENS * _LONGEST_NAME:
        size = TOKENS * _USUAL_NAME
    table = read_torn(prog, table_at, size)
    try:
        index = read_torn(prog, index_at, 2 * TOKENS)
    except Fault:
        index = Torn(bytes(2 * TOKENS), ((0, 2 * TOKENS),))
    tokens: List[Optional[bytes]] = []
    following = 0
    for code, start in enumerate(np.frombuffer(index.data, f"{order}u2").tolist()):
        if not index.has(2 * code, 2 * code + 2):
            start = following
        end = table.data.find(b"\0", start) if start >= 0 else -1
        is_there = end >= 0 and table.has(start, end + 1)
        tokens.append(table.data[start:end] if is_there else None)
        following = end + 1 if is_there else -1
    return tokens


def _damaged(what: str) -> SymbolsError:
    return SymbolsError(
        f"the kernel's symbol table is damaged ({what}): {GET_DEBUG_INFO}"
    )
