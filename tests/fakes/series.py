# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A fake kernel with vmap_blocks that has any mixture of the vm_map_ram series, as no
kernel in the lab does: each of its patches can be there or not, or be there in vain.
"""

import struct
from dataclasses import dataclass
from typing import Dict, Optional

from drgn import FaultError, Object, Program, Type, TypeMember, TypeParameter

from .kernel import PAGE, VMALLOC_START, WORD, FakeArea, FakeKernel

__all__ = ("BITS", "Series", "SeriesKernel")

BITS = 128
"""Pages of a block."""
USED, FREE = 40, 60
"""Pages of the one block that are used and free; the others were freed."""

RAM, BLOCK = 0x1, 0x3
VM_ALLOC = 0x2

# Words of struct vmap_block, struct vmap_block_queue, struct xa_node.
_BLOCK_WORDS = {"va": 1, "free": 2, "dirty": 3, "used_map": 4, "free_list": 8}
_BLOCK_SIZE, _QUEUE_SIZE, _NODE_SLOTS = 10 * WORD, 3 * WORD, 16

# A page table that maps itself, where VMCOREINFO says that it is, and nothing else.
_PGD = 0xFFFFFFFF82000000
_TABLES = 0x2000000
_ENTRIES = {
    _TABLES + 511 * WORD: _TABLES + PAGE | 0x3,
    _TABLES + PAGE + 510 * WORD: _TABLES + 2 * PAGE | 0x3,
    _TABLES + 2 * PAGE + 16 * WORD: _TABLES | 0x83,
}


@dataclass(frozen=True)
class Series:
    """What a kernel has of the series: by default, all."""

    used_map: bool = True
    """The member vmap_block.used_map."""
    bits_set: bool = True
    """Used pages are marked there."""
    flags: bool = True
    """The member vmap_area.flags, and the parameter va_flags."""
    marked: bool = True
    """Areas of vm_map_ram() are marked there."""
    reader: Optional[str] = "vmap_ram_vread_iter"
    users: bool = True
    """Somebody called vm_map_ram()."""


class SeriesKernel(FakeKernel):
    """A kernel with three areas of vmalloc(), one of vm_map_ram() and a block."""

    def __init__(self, series: Series = Series()):
        self._series = series
        start = VMALLOC_START
        marks = (RAM, BLOCK) if series.flags and series.marked else (0, 0)
        areas = [
            FakeArea(start + 16 * PAGE * i, 4, vm_flags=VM_ALLOC) for i in range(3)
        ]
        if series.users:
            areas.append(FakeArea(start + 256 * PAGE, 100, va_flags=marks[0]))
            areas.append(FakeArea(start + 512 * PAGE, BITS, va_flags=marks[1]))
        super().__init__(areas)
        self._place_queue()
        mask = self._allocate(WORD)
        self.memory[mask] = 1
        self.variables["__cpu_possible_mask"] = ("cpumask", mask)
        mm = self._allocate(WORD)
        self.memory[mm] = _PGD
        self.variables["init_mm"] = ("mm_struct", mm)

    def program(self, without: str = "") -> Program:
        prog = super().program(without)
        functions = {
            "alloc_vmap_area": ["size"] + ["va_flags"] * self._series.flags,
            **({self._series.reader: ["addr"]} if self._series.reader else {}),
        }

        def find_function(
            prog: Program, name: str, flags: object, filename: Optional[str]
        ) -> Optional[Object]:
            if name not in functions:
                return None
            word = prog.int_type("unsigned long", WORD, False)
            parameters = [TypeParameter(word, one) for one in functions[name]]
            type_ = prog.function_type(prog.void_type(), parameters)
            return Object(prog, type_, address=0xFFFFFFFF81000000)

        prog.register_object_finder("functions", find_function, enable_index=0)
        prog.add_memory_segment(_TABLES, 3 * PAGE, _read_tables, physical=True)
        return prog

    def _place_queue(self) -> None:
        """Place the block of the last area, on the one CPU's list and in its xarray."""
        queue = self._allocate(_QUEUE_SIZE)
        self.variables["vmap_block_queue"] = ("vmap_block_queue", queue)
        block = self._allocate(_BLOCK_SIZE) if self._series.users else 0
        links = [queue] + [block + WORD * _BLOCK_WORDS["free_list"]] * bool(block)
        for before, after in zip(links, (*links[1:], queue)):
            self.memory[before] = after
            self.memory[after + WORD] = before
        if not block:
            return
        node = self._allocate(_NODE_SLOTS * WORD)
        self.memory[queue + 2 * WORD] = node | 0x2
        self.memory[node + 3 * WORD] = block
        for member, value in {
            "va": self.areas[-1].address,
            "free": FREE,
            "dirty": BITS - FREE - USED,
            "used_map": ((1 << USED) - 1) * self._series.bits_set,
        }.items():
            self.memory[block + WORD * _BLOCK_WORDS[member]] = value

    def _types(self, prog: Program) -> Dict[str, Type]:
        types = super()._types(prog)
        ulong, list_head = types["unsigned long"], types["list_head"]
        pointer = prog.pointer_type(prog.void_type())

        def record(tag: str, size: int, **members: "tuple[int, Type]") -> Type:
            return prog.struct_type(
                tag,
                size,
                [
                    TypeMember(t, name, 8 * WORD * at)
                    for name, (at, t) in members.items()
                ],
            )

        xarray = record("xarray", WORD, xa_head=(0, pointer))
        bits = {"used_map": (4, prog.array_type(ulong, BITS // 64))}
        block = record(
            "vmap_block",
            _BLOCK_SIZE,
            va=(1, pointer),
            free=(2, ulong),
            dirty=(3, ulong),
            **(bits if self._series.used_map else {}),
            dirty_min=(6, ulong),
            dirty_max=(7, ulong),
            free_list=(8, list_head),
        )
        types.update(
            xarray=xarray,
            vmap_block=block,
            vmap_block_queue=record(
                "vmap_block_queue",
                _QUEUE_SIZE,
                free=(0, list_head),
                vmap_blocks=(2, xarray),
            ),
            xa_node=record(
                "xa_node",
                _NODE_SLOTS * WORD,
                slots=(0, prog.array_type(pointer, _NODE_SLOTS)),
            ),
            cpumask=record("cpumask", WORD, bits=(0, prog.array_type(ulong, 1))),
            mm_struct=record("mm_struct", WORD, pgd=(0, pointer)),
        )
        if not self._series.flags:
            area = types["vmap_area"]
            members = [m for m in area.members if m.name != "flags"]
            types["vmap_area"] = prog.struct_type("vmap_area", area.size, members)
        return types


def _read_tables(address: int, count: int, offset: int, physical: bool) -> bytes:
    if not _TABLES <= address < address + count <= _TABLES + 3 * PAGE:
        raise FaultError("nothing here", address)
    first = address - address % WORD
    words = [_ENTRIES.get(at, 0) for at in range(first, address + count, WORD)]
    return struct.pack(f"<{len(words)}Q", *words)[address - first :][:count]
