# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Symbols
-------

Names of code addresses exactly as %pS prints them (kernel/kallsyms.c,
kernel/module/kallsyms.c). The size that %pS prints is the distance to the next
symbol of kallsyms, not the one in the ELF file, so only the kernel's own tables
can tell. They are read once, and only names that are asked for are decoded.
"""

import re
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Tuple

from drgn import FaultError, Object, Program, TypeKind, offsetof

from .._numpy import Array, U64Array, np
from ..model.areas import Problem
from .kallsyms import kernel_kallsyms
from .lists import walk_list
from .memory import Memory
from .ppc64 import UNTRANSLATED, has_hash_table
from .structs import record_dtype

__all__ = ("SymbolNames",)

_MAX_SYMBOLS = 4_000_000
_LONGEST_NAME = 512
"""KSYM_NAME_LEN."""


class SymbolNames:
    """
    Names code addresses of one program.

    :raises SymbolsError: if the kernel's symbol tables cannot be found.
    """

    def __init__(self, prog: Program, memory: Memory) -> None:
        self._kernel = kernel_kallsyms(prog)
        self._stext = _stext(prog)
        self._modules = _Modules(prog, memory)
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
        return texts

    def _kernel_texts(self, addresses: List[int]) -> Dict[int, str]:
        """Return the text of each address that lies in the kernel image."""
        starts = self._kernel.starts
        inside = [a for a in addresses if self._stext <= a < int(starts[-1])]
        at = np.array(inside, np.uint64)
        last = np.searchsorted(starts, at, side="right") - 1
        # Of symbols with the same address the first one names it.
        first = np.searchsorted(starts, starts[last], side="left")
        ends = starts[np.searchsorted(starts, starts[last], side="right")]
        name = self._kernel.name
        return {
            address: f"{name(index)}+{address - start:#x}/{end - start:#x}"
            for address, index, start, end in zip(
                inside, first.tolist(), starts[last].tolist(), ends.tolist()
            )
        }


@dataclass(frozen=True)
class _Module:
    name: str
    ranges: List[Tuple[int, int]]
    """Start and end of each part that is in memory."""
    text: Tuple[int, int]
    init_text: Tuple[int, int]
    kallsyms: int


class _Modules:
    """The modules' parts of kallsyms."""

    def __init__(self, prog: Program, memory: Memory) -> None:
        self._prog = prog
        self._memory = memory
        self.problems: List[Problem] = []
        self._cache: Optional[List[_Module]] = None

    def text(self, address: int) -> Optional[str]:
        """Return the text of an address in a module, or None."""
        if self._cache is None:
            self._cache = self._read()
        for module in self._cache:
            if any(start <= address < end for start, end in module.ranges):
                try:
                    return self._symbol(module, address)
                except FaultError:
                    where = f"module {module.name}"
                    problem = Problem("unreadable", where, "its symbols are missing")
                    if problem not in self.problems:
                        self.problems.append(problem)
                    return None
        return None

    def _read(self) -> List[_Module]:
        if has_hash_table(self._prog):
            self.problems.append(UNTRANSLATED)
            return []
        head = self._prog["modules"].address_
        assert head is not None
        links, problems = walk_list(self._prog, head)
        self.problems += problems
        struct = self._prog.type("struct module")
        offset = offsetof(struct, "list")
        modules = []
        for link in links:
            try:
                modules.append(self._read_one(link - offset))
            except FaultError:
                where = f"module {link - offset:#x}"
                self.problems.append(
                    Problem("unreadable", where, "its symbols are missing")
                )
        return modules

    def _read_one(self, address: int) -> _Module:
        module = Object(self._prog, "struct module", address=address)
        # Since Linux kernel commit ac3b43283923 ("module: replace module_layout with
        # module_memory") (in v6.4), each part of a module is described apart.
        try:
            memory = module.mem
        except AttributeError:
            core, init = module.core_layout, module.init_layout
            ranges = [_range(core, "size"), _range(init, "size")]
            text, init_text = _range(core, "text_size"), _range(init, "text_size")
        else:
            ranges = [_range(part, "size") for part in memory]
            text = ranges[self._prog.constant("MOD_TEXT").value_()]
            init_text = ranges[self._prog.constant("MOD_INIT_TEXT").value_()]
        name = module.name.string_().decode("utf-8", "backslashreplace")
        return _Module(name, ranges, text, init_text, module.kallsyms.value_())

    def _symbol(self, module: _Module, address: int) -> Optional[str]:
        """Find a symbol as find_kallsyms_symbol() does."""
        symtab, strtab = self._tables(module)
        values = symtab["st_value"]
        defined = np.flatnonzero(symtab["st_shndx"] != 0)
        defined = defined[defined != 0]
        order = defined[np.argsort(values[defined], kind="stable")]
        split = int(np.searchsorted(values[order], np.uint64(address), side="right"))
        before = self._best(order[:split], values, strtab, symtab)
        if before is None:
            return None
        start, name = before
        in_init = module.init_text[0] <= address < module.init_text[1]
        end = (module.init_text if in_init else module.text)[1]
        for at in order[split:].tolist():
            if values[at] >= end:
                break
            if _is_name(self._name(strtab, symtab, at)):
                end = int(values[at])
                break
        return f"{name}+{address - start:#x}/{end - start:#x} [{module.name}]"

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
        kallsyms = Object(
            self._prog, "struct mod_kallsyms", address=module.kallsyms
        ).read_()
        count = min(kallsyms.num_symtab.value_(), _MAX_SYMBOLS)
        elf_sym = kallsyms.symtab.type_.type
        while elf_sym.kind == TypeKind.TYPEDEF:
            elf_sym = elf_sym.type
        dtype = record_dtype(
            self._prog,
            f"struct {elf_sym.tag}",
            {"st_name": "st_name", "st_value": "st_value", "st_shndx": "st_shndx"},
        )
        symtab = self._memory.array(kallsyms.symtab.value_(), count, dtype)
        return symtab, kallsyms.strtab.value_()

    def _name(self, strtab: int, symtab: Array, at: int) -> str:
        raw = self._prog.read_c_string(
            strtab + int(symtab["st_name"][at]), max_size=_LONGEST_NAME
        )
        return raw.decode("utf-8", "backslashreplace")


def _is_name(name: str) -> bool:
    """Whether %pS may print this; is_mapping_symbol() tells of the others."""
    # $x and $d of arm64 say where code and data begin.
    return bool(name) and not re.match(r"\$|\.L|L0", name)


def _range(part: Object, size: str) -> Tuple[int, int]:
    start = part.base.value_()
    return start, start + part.member_(size).value_()


def _stext(prog: Program) -> int:
    """Return where the kernel image begins: each VMCOREINFO says so."""
    text = prog["VMCOREINFO"].string_().decode("ascii", "replace")
    found = re.search(r"^SYMBOL\(_stext\)=([0-9a-f]+)$", text, re.M)
    return int(found[1], 16) if found else 0
