# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Callers
-------

Names of code addresses exactly as %pS prints them (kernel/kallsyms.c,
kernel/module/kallsyms.c). The size that %pS prints is the distance to the next
symbol of kallsyms, not the one in the ELF file, so only the kernel's own tables
can tell. They are read once, and only names that are asked for are decoded.
"""

import re
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from drgn import Program

from ..._numpy import Array, U64Array, np
from ...errors import Fault, SymbolsError
from ...model.areas import Problem, ProblemKind
from ..doors import door
from ..memory.ppc64 import UNTRANSLATED
from ..target import Target
from ..types.kallsyms import PROMOTED
from ..types.structs import array_length, has_member, need_offset, record_dtype
from .lists import walk_list

__all__ = ("CallerNames", "ModulePart", "module_parts", "prints_names")

_MAX_SYMBOLS = 4_000_000
_LONGEST_NAME = 512
"""KSYM_NAME_LEN."""
_PROMOTED = re.compile(re.escape(PROMOTED) + "[^+]*")


class CallerNames:
    """
    Names code addresses of one target.

    :raises SymbolsError: if the kernel's symbol tables cannot be found.
    :raises Fault: if they cannot be read.
    """

    def __init__(self, target: Target) -> None:
        self._kernel = target.carried.kallsyms
        # Where the kernel image begins: each VMCOREINFO says so.
        self._stext = target.vmcoreinfo.symbols.get("_stext", 0)
        self._modules = _Modules(target)
        self._hides_promoted = _hides_promoted(target)
        self.problems: List[Problem] = self._modules.problems

    def texts(self, addresses: Iterable[int]) -> Dict[int, str]:
        """
        Return the text of %pS for each address.

        :return: Texts such as ``kernel_clone+0xab/0x430`` or
            ``nft_init+0x2d/0x1000 [nf_tables]``, by address. An address without a
            symbol, such as the freed init code of a module, is hexadecimal.
        """
        wanted = sorted(addresses)
        texts = self._kernel_texts(wanted)
        for address in wanted:
            if address not in texts:
                texts[address] = self._modules.text(address) or f"{address:#x}"
        if self._hides_promoted:
            texts = {at: _PROMOTED.sub("", text) for at, text in texts.items()}
        return texts

    def variable(self, address: int) -> Optional[Tuple[str, int]]:
        """
        Return the name of the variable that holds an address, and the offset in it.

        :return: None if it has none.
        """
        found = self._kernel.around(address)
        name = found and self._kernel.name(found[0])
        if found and name:
            return name, address - found[1]
        return self._modules.variable(address)

    def _kernel_texts(self, addresses: List[int]) -> Dict[int, str]:
        """Return the text of each address that lies in the kernel image."""
        texts = {}
        for address in addresses:
            found = self._kernel.around(address) if address >= self._stext else None
            name = found and self._kernel.name(found[0])
            if found and name:
                _, start, end = found
                texts[address] = f"{name}+{address - start:#x}/{end - start:#x}"
        if self._kernel.is_torn:
            self._count_nameless([one for one in addresses if one not in texts])
        return texts

    def _count_nameless(self, addresses: List[int]) -> None:
        """Say how many callers in the image have no name, as its names are lost."""
        end = int(self._kernel.starts[-1])
        count = sum(self._stext <= address < end for address in addresses)
        if count:
            detail = f"{count} callers have no names: parts of it are lost"
            self.problems.append(Problem(ProblemKind.NAMELESS, "kallsyms", detail))


def prints_names(target: Target) -> bool:
    """Return whether %pS is a name on a kernel; else it is the address."""
    # kernel/kallsyms.c is left out of kernels without CONFIG_KALLSYMS. Without debug info
    # these have no names that anything could be read by.
    function = "sprint_symbol"
    functions = target.functions
    return functions.has(function, "kernel/kallsyms.c") or not functions.knows(function)


def _hides_promoted(target: Target) -> bool:
    """Return whether the kernel prints names without what ThinLTO puts behind them."""
    # Since Linux kernel commit 6eb4bd92c1ce ("kallsyms: strip LTO suffixes from static
    # functions") (in v5.16), until commit fb6a421fb615 ("kallsyms: Match symbols exactly
    # with CONFIG_LTO_CLANG") (in v6.11, also in v6.10.y).
    function = "cleanup_symbol_name"
    if target.functions.has(function, "kernel/kallsyms.c"):
        return True
    # It may have been inlined. Most kernels with nodes are without.
    return not target.functions.knows(function) and not target.kernel.has_nodes


class ModulePart(NamedTuple):
    """A part of a module's memory."""

    module: str
    name: str
    """Such as ``text`` or ``core``."""
    start: int
    end: int


def module_parts(target: Target) -> Iterator[ModulePart]:
    """
    Yield each part of each module.

    :raises VmapError: if they are not known.
    """
    for module in _Modules(target).all():
        for name, (start, end) in zip(module.parts, module.ranges):
            if start < end:
                yield ModulePart(module.name, name, start, end)


@dataclass(frozen=True)
class _Module:
    name: str
    parts: Sequence[str]
    """Name of each part that is in memory."""
    ranges: List[Tuple[int, int]]
    """Start and end of each."""
    text: Tuple[int, int]
    init_text: Tuple[int, int]
    kallsyms: int


_MODULE = {"name": "name[]", "kallsyms": "kallsyms"}
# Until struct module_memory, of each of core_layout and init_layout.
_LAYOUT = {"base": "base", "size": "size", "text_size": "text_size"}
_KALLSYMS = {"symtab": "symtab", "num_symtab": "num_symtab", "strtab": "strtab"}
_SYMBOL = {"st_name": "st_name", "st_value": "st_value", "st_shndx": "st_shndx"}


class _Modules:
    """The modules' parts of kallsyms."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._memory = target.memory
        self.problems: List[Problem] = []
        self._cache: Optional[List[_Module]] = None

    def all(self) -> List[_Module]:
        """Return all modules that can be read."""
        if self._cache is None:
            self._cache = self._read()
        return self._cache

    def text(self, address: int) -> Optional[str]:
        """Return the text of an address in a module, or None."""
        try:
            modules = self.all()
        except (Fault, SymbolsError):
            self._cache = modules = []
            self._report("modules")
        for module in modules:
            if any(start <= address < end for start, end in module.ranges):
                try:
                    return self._symbol(module, address)
                except (Fault, SymbolsError):
                    self._report(f"module {module.name}")
                    return None
        return None

    def variable(self, address: int) -> Optional[Tuple[str, int]]:
        """Return the name of the symbol before an address in a module, or None."""
        for module in self.all():
            if any(start <= address < end for start, end in module.ranges):
                symtab, strtab = self._tables(module)
                found = self._before(symtab, strtab, address)[0]
                if found is None:
                    return None
                start, name = found
                return f"{name} [{module.name}]", address - start
        return None

    def _report(self, where: str) -> None:
        problem = Problem(ProblemKind.UNREADABLE, where, "its symbols are missing")
        if problem not in self.problems:
            self.problems.append(problem)

    def _read(self) -> List[_Module]:
        prog = self._target.prog
        if self._target.has_hash_table:
            self.problems.append(UNTRANSLATED)
            return []
        # Kernels can be built without modules.
        if not has_member(prog, "struct module", "list"):
            return []
        head = self._target.values.address("modules")
        if head is None:
            self._report("modules")
            return []
        links, problems = walk_list(self._memory, head, self._target.live)
        self.problems += problems
        offset = need_offset(prog, "struct module", "list")
        modules = []
        for address in ((link - offset) % (1 << 64) for link in links):
            try:
                modules.append(self._read_one(address))
            except (Fault, SymbolsError):
                self._report(f"module {address:#x}")
        return modules

    def _read_one(self, address: int) -> _Module:
        prog, values = self._target.prog, self._target.values
        record = self._memory.record(
            address, record_dtype(prog, "struct module", _MODULE)
        )
        # Since Linux kernel commit ac3b43283923 ("module: replace module_layout with
        # module_memory") (in v6.4), each part of a module is described apart.
        if has_member(prog, "struct module", "mem"):
            part = record_dtype(prog, "struct module_memory", _LAYOUT, ("text_size",))
            first = address + need_offset(prog, "struct module", "mem")
            parts = [
                self._memory.record(first + index * part.itemsize, part)
                for index in range(array_length(prog, "struct module", "mem"))
            ]
            ranges = [_range(one, "size") for one in parts]
            part_names = _part_names(prog, len(parts))
            text, init_text = (
                ranges[values.need(name, values.number(lambda p: p.constant(name)))]
                for name in ("MOD_TEXT", "MOD_INIT_TEXT")
            )
        else:
            part = record_dtype(prog, "struct module_layout", _LAYOUT)
            core, init = (
                self._memory.record(
                    address + need_offset(prog, "struct module", name), part
                )
                for name in ("core_layout", "init_layout")
            )
            ranges = [_range(core, "size"), _range(init, "size")]
            part_names = ["core", "init"]
            text, init_text = _range(core, "text_size"), _range(init, "text_size")
        name = record["name"].tobytes().partition(b"\0")[0]
        return _Module(
            name.decode("utf-8", "backslashreplace"),
            part_names,
            ranges,
            text,
            init_text,
            int(record["kallsyms"]),
        )

    def _symbol(self, module: _Module, address: int) -> Optional[str]:
        """Find a symbol as find_kallsyms_symbol() does."""
        symtab, strtab = self._tables(module)
        before, behind = self._before(symtab, strtab, address)
        if before is None:
            return None
        start, name = before
        in_init = module.init_text[0] <= address < module.init_text[1]
        end = (module.init_text if in_init else module.text)[1]
        values = symtab["st_value"]
        for at in behind:
            if values[at] >= end:
                break
            if _is_name(self._name(strtab, symtab, at)):
                end = int(values[at])
                break
        return f"{name}+{address - start:#x}/{end - start:#x} [{module.name}]"

    def _before(
        self, symtab: Array, strtab: int, address: int
    ) -> Tuple[Optional[Tuple[int, str]], List[int]]:
        """Return the last symbol at or before an address, and those behind it."""
        values = symtab["st_value"]
        defined = np.flatnonzero(symtab["st_shndx"] != 0)
        defined = defined[defined != 0]
        order = defined[np.argsort(values[defined], kind="stable")]
        split = int(np.searchsorted(values[order], np.uint64(address), side="right"))
        before = self._best(order[:split], values, strtab, symtab)
        return before, order[split:].tolist()

    def _best(
        self, order: Array, values: U64Array, strtab: int, symtab: Array
    ) -> Optional[Tuple[int, str]]:
        """Return the highest named symbol; of equals the first in the table."""
        best = None
        for at in order[::-1].tolist():
            if best is not None and values[at] != best[0]:
                break
            name = self._name(strtab, symtab, at)
            if _is_name(name):
                best = (int(values[at]), name)
        return best

    def _tables(self, module: _Module) -> Tuple[Array, int]:
        prog = self._target.prog
        kallsyms = self._memory.record(
            module.kallsyms, record_dtype(prog, "struct mod_kallsyms", _KALLSYMS)
        )
        bits = 8 * self._target.kernel.word_size
        symbol = record_dtype(prog, f"struct elf{bits}_sym", _SYMBOL)
        count = min(int(kallsyms["num_symtab"]), _MAX_SYMBOLS)
        symtab = self._memory.array(int(kallsyms["symtab"]), count, symbol)
        return symtab, int(kallsyms["strtab"])

    def _name(self, strtab: int, symtab: Array, at: int) -> str:
        raw = self._memory.string(strtab + int(symtab["st_name"][at]), _LONGEST_NAME)
        return raw.decode("utf-8", "backslashreplace")


def _part_names(prog: Program, count: int) -> List[str]:
    """Return the words for the elements of module.mem."""
    names = [f"part {index}" for index in range(count)]
    with door():
        for one in prog.type("enum mod_mem_type").enumerators or ():
            if 0 <= one.value < count:
                words = one.name.lower().split("_")
                names[one.value] = " ".join(words[1:])
    return names


def _is_name(name: str) -> bool:
    """Whether %pS may print this; is_mapping_symbol() tells of the others."""
    # $x and $d of arm64 say where code and data begin.
    return bool(name) and not re.match(r"\$|\.L|L0", name)


def _range(part: Array, size: str) -> Tuple[int, int]:
    start = int(part["base"])
    return start, start + int(part[size])
