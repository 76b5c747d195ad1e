# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A fake kernel: a drgn Program over memory that a test lays out by hand.

It has busy areas in a list and in a tree, as kernels from 6.3 to 6.8 keep them,
which no distribution's kernel in the lab does, and it can be damaged word by
word. Structs are simplified to the members that matter, at offsets of its own.
"""

import struct
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from drgn import (
    Architecture,
    FaultError,
    Object,
    Platform,
    PlatformFlags,
    Program,
    ProgramFlags,
    Type,
    TypeKindSet,
    TypeMember,
)

X86_64 = Platform(Architecture.X86_64)
LITTLE_ENDIAN = Platform(
    Architecture.PPC64, PlatformFlags.IS_64_BIT | PlatformFlags.IS_LITTLE_ENDIAN
)
PAGE = 4096
BASE = 0xFFFF888000000000
"""Where the fake's structs lie."""
BASE_32 = 0x8C000000
"""And where if its words have 32 bits."""
VMALLOC_START = 0xFFFFC90000000000

WORD = 8
# Offsets of members, in words.
_LIST, _RB = 5, 2
AREA_WORDS = {
    "va_start": 0,
    "va_end": 1,
    "rb_parent": 2,
    "rb_right": 3,
    "rb_left": 4,
    "next": 5,
    "prev": 6,
    "vm": 7,
    "flags": 8,
}
AREA_SIZE = 9 * WORD
VM_SIZE = 10 * WORD

# What drgn asks of a kernel before anything else.
VMCOREINFO = """OSRELEASE=6.5.0-fake
PAGESIZE={page_size}
SYMBOL(_stext)=ffffffff81000000
SYMBOL(swapper_pg_dir)=ffffffff82000000
NUMBER(phys_base)=0
NUMBER(pgtable_l5_enabled)=0
KERNELOFFSET=0
"""


@dataclass
class FakeArea:
    """An area to be laid out."""

    start: int
    pages: int
    vm_flags: Optional[int] = None
    """None for an area of vm_map_ram()."""
    va_flags: int = 0
    phys_addr: int = 0
    address: int = 0
    """Where the struct vmap_area went."""
    vm: int = 0
    """Where the struct vm_struct went."""

    @property
    def end(self) -> int:
        return self.start + self.pages * PAGE


class FakeKernel:
    """
    Memory, types and variables of a kernel with the given areas.

    :param page_size: What it says its pages have; areas are laid out in pages of 4 KiB.
    """

    live = False
    vmcoreinfo = ""
    """More lines of it."""

    def __init__(
        self,
        areas: Sequence[FakeArea],
        lazy: Sequence[FakeArea] = (),
        platform: Platform = X86_64,
        page_size: int = PAGE,
    ):
        self._platform = platform
        self._page_size = page_size
        self._little = bool(platform.flags & PlatformFlags.IS_LITTLE_ENDIAN)
        wide = bool(platform.flags & PlatformFlags.IS_64_BIT)
        self._word, self._base = (WORD, BASE) if wide else (4, BASE_32)
        self.memory: Dict[int, int] = {}
        """Words by address; any other address of the fake faults."""
        self._next = self._base
        self.areas, self.lazy = list(areas), list(lazy)
        for area in (*self.areas, *self.lazy):
            self._place(area)
        self.variables: Dict[str, Tuple[str, int]] = {}
        self._link("vmap_area", self.areas)
        self._link("purge_vmap_area", self.lazy)
        self._link("free_vmap_area", [])

    def word(self, area: FakeArea, member: str) -> int:
        """Return the address of a member of an area."""
        return area.address + self._word * AREA_WORDS[member]

    def program(self, without: str = "") -> Program:
        """Return a Program that sees this kernel, but for the type of that tag."""
        prog = Program(self._platform)
        types = self._types(prog)
        types.pop(without, None)

        def find_type(
            prog: Program, kinds: TypeKindSet, name: str, filename: Optional[str]
        ) -> Optional[Type]:
            found = types.get(name)
            return found if found is not None and found.kind in kinds else None

        def find_object(
            prog: Program, name: str, flags: object, filename: Optional[str]
        ) -> Optional[Object]:
            if name not in self.variables:
                return None
            type_name, address = self.variables[name]
            return Object(prog, types[type_name], address=address)

        prog.register_type_finder("fake", find_type, enable_index=0)
        prog.register_object_finder("fake", find_object, enable_index=0)
        vmcoreinfo = VMCOREINFO.format(page_size=self._page_size) + self.vmcoreinfo
        prog.set_linux_kernel_custom(vmcoreinfo.encode(), is_live=self.live)
        prog.add_memory_segment(self._base, 1 << 30, self.read)
        assert prog.flags & ProgramFlags.IS_LINUX_KERNEL
        return prog

    def _types(self, prog: Program) -> Dict[str, Type]:
        return _types(prog, self._word)

    def _allocate(self, size: int) -> int:
        address = self._next
        for at in range(address, address + size, self._word):
            self.memory[at] = 0
        self._next += size
        return address

    def _place(self, area: FakeArea) -> None:
        area.address = self._allocate(AREA_SIZE // WORD * self._word)
        self.memory[self.word(area, "va_start")] = area.start
        self.memory[self.word(area, "va_end")] = area.end
        self.memory[self.word(area, "flags")] = area.va_flags
        if area.vm_flags is not None:
            area.vm = self._allocate(VM_SIZE // WORD * self._word)
            self.memory[self.word(area, "vm")] = area.vm
            size = area.pages * PAGE
            words = {1: area.start, 2: size, 3: area.vm_flags, 7: area.phys_addr}
            for index, value in words.items():
                self.memory[area.vm + self._word * index] = value

    def _link(self, name: str, areas: List[FakeArea]) -> None:
        head = self._allocate(2 * self._word)
        root = self._allocate(self._word)
        self.variables[f"{name}_list"] = ("list_head", head)
        self.variables[f"{name}_root"] = ("rb_root", root)
        nodes = [head, *(self.word(area, "next") for area in areas), head]
        for before, after in zip(nodes, nodes[1:]):
            self.memory[before] = after
            self.memory[after + self._word] = before
        ordered = sorted(areas, key=lambda area: area.start)
        self.memory[root] = self._tree(ordered, 0)

    def _tree(self, areas: List[FakeArea], parent: int) -> int:
        """Make a balanced tree of sorted areas and return its root's rb_node."""
        if not areas:
            return 0
        middle = len(areas) // 2
        area = areas[middle]
        node = self.word(area, "rb_parent")
        self.memory[self.word(area, "rb_parent")] = parent | 1
        self.memory[self.word(area, "rb_left")] = self._tree(areas[:middle], node)
        self.memory[self.word(area, "rb_right")] = self._tree(areas[middle + 1 :], node)
        return node

    def read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        """Return memory, as drgn asks for it."""
        # Pages that hold anything can be read as a whole, as in a real kernel.
        end = -(-self._next // self._page_size) * self._page_size
        if not self._base <= address < address + count <= end:
            raise FaultError("nothing here", address)
        word = self._word
        first = address - address % word
        words = [self.memory.get(at, 0) for at in range(first, address + count, word)]
        order = "<" if self._little else ">"
        data = struct.pack(f"{order}{len(words)}{'Q' if word == 8 else 'I'}", *words)
        return data[address - first :][:count]


def _types(prog: Program, word: int) -> Dict[str, Type]:
    """Return the types that the fake has, by name or tag."""
    ulong = prog.int_type("unsigned long", word, False)
    uint = prog.int_type("unsigned int", 4, False)
    pointer = prog.pointer_type(prog.void_type())

    def record(tag: str, words: int, members: Dict[str, Tuple[int, Type]]) -> Type:
        return prog.struct_type(
            tag,
            words * word,
            [
                TypeMember(type_, name, 8 * word * at)
                for name, (at, type_) in members.items()
            ],
        )

    list_head = record("list_head", 2, {"next": (0, pointer), "prev": (1, pointer)})
    rb_node = record(
        "rb_node",
        3,
        {
            "__rb_parent_color": (0, ulong),
            "rb_right": (1, pointer),
            "rb_left": (2, pointer),
        },
    )
    vmap_area = record(
        "vmap_area",
        AREA_SIZE // WORD,
        {
            "va_start": (0, ulong),
            "va_end": (1, ulong),
            "rb_node": (_RB, rb_node),
            "list": (_LIST, list_head),
            "vm": (7, pointer),
            "subtree_max_size": (7, ulong),
            "flags": (8, ulong),
        },
    )
    vm_struct = record(
        "vm_struct",
        VM_SIZE // WORD,
        {
            "next": (0, pointer),
            "addr": (1, pointer),
            "size": (2, ulong),
            "flags": (3, ulong),
            "pages": (4, pointer),
            "page_order": (5, uint),
            "nr_pages": (6, uint),
            "phys_addr": (7, ulong),
            "caller": (8, pointer),
        },
    )
    return {
        "unsigned long": ulong,
        "phys_addr_t": prog.typedef_type("phys_addr_t", ulong),
        "list_head": list_head,
        "rb_node": rb_node,
        "rb_root": record("rb_root", 1, {"rb_node": (0, pointer)}),
        "vmap_area": vmap_area,
        "vm_struct": vm_struct,
        "vmap_block_queue": record("vmap_block_queue", 1, {"vmap_blocks": (0, ulong)}),
    }
