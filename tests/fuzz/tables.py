# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Where in a sample its BTF and kallsyms lie, and the parts of them that matter to verbs.
They are found by the kernel's symbols and by names, not by the code under test.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Iterator

from drgn import Program

from .image import Image
from .places import VARIABLES, Places
from .symbols import SymbolTable

__all__ = ("Tables",)

_HEADER_BYTES = 24
_WORD = 4
_TYPES = (
    *("vmap_area", "vm_struct", "vmap_block", "vmap_block_queue", "vmap_node"),
    *("rb_root", "rb_node", "list_head", "llist_head", "vmap_pool", "xarray", "page"),
    *("pglist_data", "module", "module_memory", "module_layout", "mod_kallsyms"),
    *("elf64_sym", "kcore_list", "mm_struct", "mem_section", "unsigned int", "int"),
    *("long unsigned int", "u64", "cpumask", "nodemask_t", "atomic_long_t", "bool"),
)
_MEMBERS = (
    *("va_start", "va_end", "subtree_max_size", "vm", "flags", "rb_left", "rb_right"),
    *("next", "prev", "list", "purge_list", "rb_node", "addr", "size", "nr_pages"),
    *("pages", "caller", "phys_addr", "busy", "lazy", "pool", "root", "head", "free"),
    *("used_map", "dirty", "dirty_min", "free_list", "va", "symtab", "num_symtab"),
    *("strtab", "base", "kallsyms", "node_start_pfn", "bits", "pgd", "name", "xa_head"),
)


class Tables:
    """Places in BTF and in kallsyms: each has a name, an offset in the file, a size."""

    def __init__(self, image: Image, places: Places, prog: Program) -> None:
        self._image = image
        start = prog.symbol("__start_BTF").address
        btf = places.offset(start)
        assert btf is not None
        self._btf = btf
        self._btf_bytes = prog.symbol("__stop_BTF").address - start
        self._kallsyms = SymbolTable(image, places)
        self._named = [*self._of_names()]
        entries = [*self._kallsyms.entries()]
        self._symbols = [entry for entry in entries if entry.name in VARIABLES]
        #: Bytes of an element of each part of kallsyms, and how many there are.
        self._elements = {
            "kallsyms_num_syms": (4, 1),
            "kallsyms_relative_base": (8, 1),
            "kallsyms_token_index": (2, 256),
            "kallsyms_token_table": (1, 512),
            "kallsyms_offsets": (4, len(entries)),
            "kallsyms_names": (1, sum(len(entry.packed) for entry in entries)),
        }

    def draw(self, draw: Random) -> tuple[str, int, int]:
        """Return a place."""
        btf, data = self._btf, self._image.data
        how = draw.randrange(10)
        if how == 0:
            return "BTF header", btf + draw.choice((0, 2, 3)), 1
        if how == 1:
            return "BTF header", btf + _WORD * draw.randrange(1, 8), _WORD
        if how < 6:
            name, at = draw.choice(self._named)
            word = draw.randrange(4)
            return f"BTF of {name}+{word}", at + _WORD * word, _WORD
        if how == 6:
            return "BTF", btf + draw.randrange(self._btf_bytes), 1
        if how == 7:
            entry = draw.choice(self._symbols)
            at = entry.at + draw.randrange(len(entry.packed))
            return f"kallsyms name of {entry.name}", at, 1
        name = draw.choice([*self._kallsyms.parts])
        size, count = self._elements[name]
        at = self._kallsyms.place(name) + size * draw.randrange(count)
        return name, min(at, len(data) - size), size

    def _of_names(self) -> Iterator[tuple[str, int]]:
        """Yield the words that hold the names of types and members that verbs know."""
        data = self._image.data[self._btf : self._btf + self._btf_bytes]
        header, types, type_bytes, strings, string_bytes = struct.unpack_from(
            "<5I", data, 4
        )
        texts = data[header + strings : header + strings + string_bytes]
        words = memoryview(data)[header + types : header + types + type_bytes].cast("I")
        names = {}
        for name in (*_TYPES, *_MEMBERS):
            at = texts.find(b"\0" + name.encode() + b"\0") + 1
            if at:
                names[at] = name
        for index, word in enumerate(words):
            if word in names:
                yield names[word], self._btf + header + types + _WORD * index
        for at, name in names.items():
            yield f"text {name}", self._btf + header + strings + at
