# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Where in a sample its BTF and kallsyms lie, and the parts of them that matter to verbs.
They are found by the kernel's symbols and by names, not by the code under test.
"""

from __future__ import annotations

import re
import struct
from random import Random
from typing import Iterator

from drgn import Program

from .image import Image
from .places import VARIABLES, Places

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
#: Bytes of an element of each table of kallsyms, and how many there are.
_ELEMENTS = {
    "kallsyms_num_syms": (4, 1),
    "kallsyms_relative_base": (8, 1),
    "kallsyms_token_index": (2, 256),
    "kallsyms_offsets": (4, 1 << 16),
    "kallsyms_token_table": (1, 512),
}
_BYTES = (1, 1 << 17)


class Tables:
    """Places in BTF and in kallsyms: each has a name, an offset in the file, a size."""

    def __init__(self, image: Image, places: Places, prog: Program) -> None:
        self._image = image
        self._places = places
        start = prog.symbol("__start_BTF").address
        btf = places.offset(start)
        assert btf is not None
        self._btf = btf
        self._btf_bytes = prog.symbol("__stop_BTF").address - start
        text = image.vmcoreinfo.decode()
        self._kallsyms = {
            name: int(value, 16)
            for name, value in re.findall(r"(?m)^SYMBOL\((kallsyms_\w+)\)=(\w+)$", text)
        }
        self._named = [*self._of_names()]
        self._symbols = [*self._of_symbols(prog)]

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
            name, at, size = draw.choice(self._symbols)
            return f"kallsyms name of {name}", at + draw.randrange(size), 1
        name = draw.choice([*self._kallsyms])
        size, count = _ELEMENTS.get(name, _BYTES)
        at = self._table(name) + size * draw.randrange(count)
        return name, min(at, len(data) - size), size

    def _table(self, name: str) -> int:
        at = self._places.offset(self._kallsyms[name])
        assert at is not None
        return at

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

    def _of_symbols(self, prog: Program) -> Iterator[tuple[str, int, int]]:
        """Yield each variable's packed name: where it is, its length included, and its size."""
        wanted = {name.encode() for name in VARIABLES}
        data, at = self._image.data, self._table("kallsyms_names")
        index = self._table("kallsyms_token_index")
        table = self._table("kallsyms_token_table")
        starts = struct.unpack_from("<256H", data, index)
        tokens = [
            data[table + start : data.index(b"\0", table + start)] for start in starts
        ]
        for _ in range(prog.read_u32(self._kallsyms["kallsyms_num_syms"])):
            begin, size = at, data[at]
            at += 1
            if size & 0x80:
                size = size & 0x7F | data[at] << 7
                at += 1
            # The first byte is the type.
            text = b"".join([tokens[byte] for byte in data[at : at + size]])[1:]
            if text in wanted:
                yield text.decode(), begin, at + size - begin
            at += size
