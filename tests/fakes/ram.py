# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A fake kernel with RAM: struct pages that a test lays out, and what the pages hold. It
marks what pages are used for as kernels do that are not in the lab, too.
"""

import struct
from typing import Dict, List, Optional, Tuple

from drgn import FaultError, Object, Program, Type, TypeMember

from .kernel import PAGE, WORD
from .series import Series, SeriesKernel

__all__ = ("FIRST", "PAGES", "RamKernel")

FIRST, PAGES = 0x10000, 512
"""The first frame of RAM, and how many there are."""
VMEMMAP = 0xFFFFEA0000000000
STRUCT = 64
SYSTEM_RAM = 0x81000200

LRU, SWAPCACHE, PRIVATE, SWAPBACKED, HEAD, SLAB, POISON = 5, 10, 13, 19, 16, 9, 22
NUMBERS = {
    "PG_lru": LRU,
    "PG_private": PRIVATE,
    "PG_swapcache": SWAPCACHE,
    "PG_swapbacked": SWAPBACKED,
    "PG_hwpoison": POISON,
    "PG_head_mask": 1 << HEAD,
    "PAGE_BUDDY_MAPCOUNT_VALUE": -129,
    "PAGE_OFFLINE_MAPCOUNT_VALUE": -257,
}

#: Offsets of what struct page has; in any order, as kernels have it.
OFFSETS = {"flags": 0, "compound": 8, "mapping": 24, "private": 40, "_mapcount": 48}


class RamKernel(SeriesKernel):
    """
    A kernel whose pages are all kernel data and hold no zeros, until a test says more.

    :param numbers: More of VMCOREINFO's numbers.
    :param dtor: Which struct names the byte that tells what a compound page is, if any.
    :param is_mask: Whether tails have masks, as since 7.1.
    """

    def __init__(
        self, numbers: Dict[str, int] = {}, dtor: str = "", is_mask: bool = False
    ):
        super().__init__(Series(users=False))
        self.vmcoreinfo = "".join(
            f"NUMBER({name})={number}\n"
            for name, number in {**NUMBERS, **numbers}.items()
        )
        self._dtor = dtor
        self._is_mask = is_mask
        self.structs = bytearray(PAGES * STRUCT)
        self.lost_structs = range(0)
        """Frames whose struct pages cannot be read."""
        self.lost_pages = range(0)
        """Frames that cannot be read."""
        self.zeros: List[int] = []
        """Frames of zeros, counted from FIRST."""
        self.resources = [self._resource(SYSTEM_RAM, FIRST, PAGES)]
        node = self._allocate(2 * WORD)
        self.memory[node], self.memory[node + WORD] = FIRST, PAGES
        self.variables["contig_page_data"] = ("pglist_data", node)
        root = self._allocate(8 * WORD)
        self.memory[root + 7 * WORD] = self.resources[0]
        self.variables["iomem_resource"] = ("resource", root)

    def set(self, index: int, **members: int) -> None:
        """Set members of a struct page, counted from FIRST."""
        for name, value in members.items():
            format_ = "<i" if name == "_mapcount" else "<Q"
            at = index * STRUCT + OFFSETS[name]
            struct.pack_into(format_, self.structs, at, value)

    def set_compound(self, head: int, count: int, **members: int) -> None:
        """Make pages a compound page whose head has these members."""
        flags = members.pop("flags", 0) | 1 << HEAD
        self.set(head, flags=flags, **members)
        address = self.address(head)
        for index in range(head + 1, head + count):
            mask = ~(count * STRUCT - 1) & (1 << 64) - 1
            self.set(index, compound=(mask if self._is_mask else address) | 1)

    def address(self, index: int) -> int:
        """Return where a struct page is."""
        return VMEMMAP + (FIRST + index) * STRUCT

    def program(self, without: str = "") -> Program:
        prog = super().program(without)

        page = prog.pointer_type(prog.type("struct page"))
        mask = prog.type("struct nodemask")
        values = {
            "vmemmap": Object(prog, page, VMEMMAP),
            "N_ONLINE": Object(prog, "unsigned long", 0),
            "node_states": Object(prog, prog.array_type(mask, 1), [{"bits": [1]}]),
        }

        def find_value(
            prog: Program, name: str, flags: object, filename: Optional[str]
        ) -> Optional[Object]:
            return values.get(name)

        prog.register_object_finder("ram", find_value, enable_index=0)
        first = self.address(0)
        prog.add_memory_segment(first, len(self.structs), self._read_structs)
        prog.add_memory_segment(
            FIRST * PAGE, PAGES * PAGE, self._read_pages, physical=True
        )
        return prog

    def _resource(self, flags: int, first: int, pages: int) -> int:
        at = self._allocate(8 * WORD)
        words = (first * PAGE, (first + pages) * PAGE - 1, 0, flags)
        for index, word in enumerate(words):
            self.memory[at + WORD * index] = word
        return at

    def _read_structs(
        self, address: int, count: int, offset: int, physical: bool
    ) -> bytes:
        lost = self.lost_structs
        if offset // STRUCT < lost.stop and lost.start < -(-(offset + count) // STRUCT):
            raise FaultError("no such struct page", address)
        return bytes(self.structs[offset : offset + count])

    def _read_pages(
        self, address: int, count: int, offset: int, physical: bool
    ) -> bytes:
        pages = range(offset // PAGE, -(-(offset + count) // PAGE))
        if set(pages) & set(self.lost_pages):
            raise FaultError("no such page", address)
        filled = b"".join(
            bytes(PAGE) if page in self.zeros else b"\xa5" * PAGE for page in pages
        )
        return filled[offset % PAGE :][:count]

    def _types(self, prog: Program) -> Dict[str, Type]:
        types = super()._types(prog)
        ulong = types["unsigned long"]
        byte = prog.int_type("unsigned char", 1, False)
        number = prog.int_type("int", 4, True)
        atomic = prog.struct_type("atomic_t", 4, [TypeMember(number, "counter", 0)])
        compound = "compound_info" if self._is_mask else "compound_head"
        members: Dict[str, Tuple[Type, int]] = {
            name: (atomic if name == "_mapcount" else ulong, offset)
            for name, offset in OFFSETS.items()
        }
        members[compound] = members.pop("compound")
        if self._dtor == "page":
            members["compound_dtor"] = (byte, 56)
        page = _record(prog, "page", STRUCT, members)
        pointer = prog.pointer_type(prog.void_type())
        names = ("start", "end", "name", "flags", "desc", "parent", "sibling", "child")
        words = {
            name: (pointer if name in ("sibling", "child") else ulong, WORD * index)
            for index, name in enumerate(names)
        }
        node = {"node_start_pfn": (ulong, 0), "node_spanned_pages": (ulong, WORD)}
        mask = {"bits": (prog.array_type(ulong, 1), 0)}
        area = _record(prog, "free_area", WORD, {"nr_free": (ulong, 0)})
        zone = {"free_area": (prog.array_type(area, 11), 0)}
        if self._is_mask:
            zone["vmemmap_tails"] = (ulong, 11 * WORD)
        more = {
            "page": page,
            "pglist_data": _record(prog, "pglist_data", 2 * WORD, node),
            "nodemask": _record(prog, "nodemask", WORD, mask),
            "resource": _record(prog, "resource", 8 * WORD, words),
            "zone": _record(prog, "zone", 12 * WORD, zone),
        }
        if self._dtor == "folio":
            folio = {"_folio_dtor": (byte, STRUCT + 56)}
            more["folio"] = _record(prog, "folio", 2 * STRUCT, folio)
        return {**types, **more}


def _record(
    prog: Program, tag: str, size: int, members: Dict[str, Tuple[Type, int]]
) -> Type:
    return prog.struct_type(
        tag,
        size,
        [
            TypeMember(type_, name, 8 * offset)
            for name, (type_, offset) in members.items()
        ],
    )
