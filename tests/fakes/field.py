# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Fake kernels as they are in the field, and no lab has them: generations before 5.10,
vendors' mixtures, and what is under review. Each has the same areas, in whatever way it
keeps them; what that is was looked up in public sources.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from drgn import Object, Program, Type, TypeMember, TypeParameter

from .kernel import AREA_WORDS, PAGE, VM_SIZE, VMALLOC_START, WORD, FakeArea
from .series import BITS, FREE, USED, Series, SeriesKernel

__all__ = ("FIELD", "Field", "FieldKernel", "UNMARKED", "expected_lines")

VM_ALLOC, VM_MAP, VM_IOREMAP = 0x2, 0x4, 0x1
LAZY_FREE, VM_AREA = 0x2, 0x4
"""VM_LAZY_FREE and VM_VM_AREA of old flags."""
LAST = (1 << 64) - 1
UNMARKED = VMALLOC_START + 1024 * PAGE
"""A lazily freed area of vm_unmap_ram(), which old kernels do not mark."""
_GARBAGE = 0xDEADBEEF0000
_AREA_WORDS = 11
_PURGE_LIST, _SUBTREE = 9, 10


@dataclass(frozen=True)
class Field:
    """How a kernel keeps its areas; by default, as mainline 6.5 does."""

    layout: str
    """What it is to be taken for."""
    flags: str = "new"
    """Of vmap_area: "old", "new" or ""."""
    purge_list: str = ""
    """The member of vmap_area: "apart", in a "union" with vm, or ""."""
    lazy: str = "tree"
    """Where lazily freed areas are: "among" the others, in an "llist" or a "tree"."""
    has_free_tree: bool = True
    blocks: str = "percpu"
    """A "radix" tree, an xarray "tree" of that name, a "global" xarray, or "percpu"."""
    used_map: bool = True
    reader: bool = True
    members: tuple[str, ...] = ()
    """More of struct vmap_block."""
    parameters: tuple[str, ...] = ()
    """More of alloc_vmap_area()."""
    functions: tuple[str, ...] = ()
    adjusts: bool = False
    """find_vmap_lowest_match() has the parameter adjust_search_size."""
    has_rb_node: bool = True
    has_seq_ops: bool = True


_OLD = Field("before A", "old", "apart", "among", False, "radix", False, False)
_A = Field("A", "", "union", "llist", True, "global", False, False)
_RHEL_9 = Field("D", parameters=("vm",), functions=("purge_fragmented_block",))
FIELD = {
    "4.18": _OLD,
    "RHEL 8.3": _OLD,
    "5.1": replace(_OLD, blocks="tree"),
    "5.2": replace(_OLD, blocks="tree", has_free_tree=True),
    "openEuler 4.19": replace(_OLD, has_free_tree=True),
    "5.4": replace(_A, blocks="tree"),
    "RHEL 8.5": _A,
    "5.15": replace(_A, layout="B", purge_list="", lazy="tree"),
    "6.5": Field("D", functions=("purge_fragmented_block",)),
    "RHEL 9": _RHEL_9,
    "GKI 6.6": Field("D", members=("cpu",), functions=("purge_fragmented_block",)),
    "without rb_node": replace(_RHEL_9, has_rb_node=False, has_free_tree=False),
}
"""Kernels by name."""


class _Free(FakeArea):
    """A range that belongs to nobody."""

    def __init__(self, start: int, end: int):
        super().__init__(start, 0)
        self._end = end

    @property
    def end(self) -> int:
        return self._end


class FieldKernel(SeriesKernel):
    """
    Three areas of vmalloc(), one of vm_map_ram(), a block, and two that were freed lazily.

    :param topmost: Whether another one with a vm has the highest address.
    """

    # Its names are lost; it says where they were, for nobody to look for them long.
    vmcoreinfo = "".join(
        f"SYMBOL(kallsyms_{name})=ffffffff82800000\n"
        for name in "names num_syms token_table token_index offsets relative_base".split()
    )

    def __init__(self, field: Field, topmost: bool = True):
        self._field = field
        start = VMALLOC_START
        self.freed = [FakeArea(start + 80 * PAGE, 3), FakeArea(UNMARKED, 70)]
        if topmost:
            self.freed.append(FakeArea(start + 1200 * PAGE, 2))
        super().__init__(
            Series(
                used_map=field.used_map,
                flags=field.flags == "new",
                reader="vmap_ram_vread_iter" if field.reader else None,
            )
        )
        if topmost:
            self.areas.append(FakeArea(start + 2048 * PAGE, 9, VM_MAP))
            self._place(self.areas[-1])
        for area in self.freed:
            self._place(area)
        self._keep_areas()
        self._keep_blocks()
        pages = sum(area.pages for area in self.freed)
        for name, type_, value in (
            ("vmap_lazy_nr", "atomic_long_t", pages),
            ("__cpu_online_mask", "cpumask", 1),
            ("kptr_restrict", "int", 1),
        ):
            at = self._allocate(WORD)
            self.memory[at] = value
            self.variables[name] = (type_, at)
        key = self._allocate(2 * WORD)
        self.memory[key] = 1
        self.variables["ptr_key"] = ("siphash_key_t", key)

    def _keep_areas(self) -> None:
        field, busy = self._field, sorted(self.areas, key=lambda area: area.start)
        for name in ("vmap_area", "purge_vmap_area", "free_vmap_area"):
            for end in ("_root", "_list"):
                self.variables.pop(f"{name}{end}")
        all_ = sorted((*busy, *self.freed), key=lambda area: area.start)
        if field.flags == "old":
            for area in all_:
                self._set_old_flags(area)
        self._link("vmap_area", all_ if field.lazy == "among" else busy)
        if field.lazy == "tree":
            self._link("purge_vmap_area", self.freed)
        else:
            head = self._allocate(WORD)
            self.variables["vmap_purge_list"] = ("llist_head", head)
            word = _PURGE_LIST if field.purge_list == "apart" else AREA_WORDS["vm"]
            for area in self.freed:
                self.memory[area.address + word * WORD] = self.memory[head]
                self.memory[head] = area.address + word * WORD
        if field.has_free_tree:
            self._keep_free(all_)
        for name in [] if field.has_rb_node else list(self.variables):
            if name.endswith("area_root"):
                del self.variables[name]

    def _set_old_flags(self, area: FakeArea) -> None:
        flags = VM_AREA if area.vm else 0
        if area in self.freed and area.start != UNMARKED:
            flags = LAZY_FREE
        self.memory[self.word(area, "flags")] = flags
        if not area.vm:
            self.memory[self.word(area, "vm")] = _GARBAGE

    def _keep_free(self, held: list[FakeArea]) -> None:
        ends = [1, *(area.end for area in held)]
        starts = [*(area.start for area in held), LAST]
        self.free = [_Free(end, start) for end, start in zip(ends, starts)]
        for area in self.free:
            self._place(area)
        self._link("free_vmap_area", list(self.free))
        apart = self._field.purge_list == "apart"
        word = _SUBTREE if apart else AREA_WORDS["vm"]
        nodes = {self.word(area, "rb_parent"): area for area in self.free}

        def largest(node: int) -> int:
            if not node:
                return 0
            area = nodes[node]
            below = [
                largest(self.memory[self.word(area, link)])
                for link in ("rb_left", "rb_right")
            ]
            found = max(area.end - area.start, *below)
            self.memory[area.address + word * WORD] = found
            return found

        largest(self.memory[self.variables["free_vmap_area_root"][1]])

    def _keep_blocks(self) -> None:
        """Put the one block where this kernel has them; it was laid out per CPU."""
        queue = self.variables["vmap_block_queue"][1]
        entry = self.memory[queue + 2 * WORD]
        node = entry & ~3
        block = self.memory[node + 3 * WORD]
        # 40 pages used, 28 freed and purged of none: the range is where they were.
        low, high = BITS - FREE - (BITS - FREE - USED), BITS - FREE
        self.memory[block + 6 * WORD], self.memory[block + 7 * WORD] = low, high
        if self._field.blocks == "percpu":
            return
        self.memory[queue + 2 * WORD] = 0
        root = self._allocate(WORD)
        self.memory[root] = node | (1 if self._field.blocks == "radix" else 2)
        is_radix = self._field.blocks == "radix"
        name = "vmap_blocks" if self._field.blocks == "global" else "vmap_block_tree"
        self.variables[name] = ("radix_tree_root" if is_radix else "xarray", root)

    def _place(self, area: FakeArea) -> None:
        area.address = self._allocate(_AREA_WORDS * WORD)
        self.memory[self.word(area, "va_start")] = area.start
        self.memory[self.word(area, "va_end")] = area.end
        self.memory[self.word(area, "flags")] = area.va_flags
        if area.vm_flags is None:
            return
        area.vm = self._allocate(VM_SIZE)
        self.memory[self.word(area, "vm")] = area.vm
        words = {1: area.start, 2: area.pages * PAGE, 3: area.vm_flags}
        for index, value in words.items():
            self.memory[area.vm + WORD * index] = value

    def program(self, without: str = "") -> Program:
        prog = super().program(without)
        names = {name: ["size"] for name in self._field.functions}
        names["alloc_vmap_area"] = ["size", *self._field.parameters]
        if self._field.adjusts:
            names["find_vmap_lowest_match"] = ["adjust_search_size"]
        if self._field.flags == "new":
            names["alloc_vmap_area"].append("va_flags")

        def find(
            prog: Program, name: str, flags: object, filename: str | None
        ) -> Object | None:
            if name not in names:
                return None
            word = prog.int_type("unsigned long", WORD, False)
            parameters = [TypeParameter(word, one) for one in names[name]]
            type_ = prog.function_type(prog.void_type(), parameters)
            return Object(prog, type_, address=0xFFFFFFFF81000000)

        prog.register_object_finder("field", find, enable_index=0)
        return prog

    def _types(self, prog: Program) -> dict[str, Type]:
        types, field = super()._types(prog), self._field
        ulong, list_head = types["unsigned long"], types["list_head"]
        pointer = prog.pointer_type(prog.void_type())

        def record(tag: str, words: int, **members: tuple[int, Type]) -> Type:
            found = [
                TypeMember(type_, name, 8 * WORD * at)
                for name, (at, type_) in members.items()
            ]
            return prog.struct_type(tag, words * WORD, found)

        area = {m.name or "": (m.bit_offset // 64, m.type) for m in _members(types)}
        area.pop("flags", None)
        if field.flags:
            area["flags"] = (AREA_WORDS["flags"], ulong)
        if field.purge_list:
            apart = field.purge_list == "apart"
            area["purge_list"] = (_PURGE_LIST if apart else AREA_WORDS["vm"], pointer)
        area.pop("subtree_max_size")
        if field.has_free_tree:
            apart = field.purge_list == "apart"
            area["subtree_max_size"] = (_SUBTREE if apart else AREA_WORDS["vm"], ulong)
        if not field.has_rb_node:
            del area["rb_node"]
        types["vmap_area"] = record("vmap_area", _AREA_WORDS, **area)
        if field.blocks != "percpu":
            queue = record("vmap_block_queue", 3, free=(0, list_head))
            types["vmap_block_queue"] = queue
        if field.blocks == "radix":
            node = types.pop("xa_node")
            types["radix_tree_node"] = prog.struct_type(
                "radix_tree_node", node.size, node.members
            )
            del types["xarray"]
            root = record("radix_tree_root", 1, rnode=(0, pointer))
            types["radix_tree_root"] = root
        block = types["vmap_block"]
        extra = [TypeMember(ulong, name, 0) for name in field.members]
        types["vmap_block"] = prog.struct_type(
            "vmap_block", block.size, [*(block.members or ()), *extra]
        )
        seq_ops = {"seq_ops": (0, pointer)} if field.has_seq_ops else {}
        key = prog.struct_type(
            "siphash", 16, [TypeMember(prog.array_type(ulong, 2), "key", 0)]
        )
        types.update(
            llist_head=record("llist_head", 1, first=(0, pointer)),
            proc_dir_entry=record("proc_dir_entry", 1, **seq_ops),
            atomic_long_t=record("atomic_long", 1, counter=(0, ulong)),
            int=prog.int_type("int", 4, True),
            siphash_key_t=prog.typedef_type("siphash_key_t", key),
        )
        return types


def _members(types: dict[str, Type]) -> list[TypeMember]:
    return list(types["vmap_area"].members or ())


def expected_lines(kernel: FieldKernel, field: Field) -> list[str]:
    """Return what that kernel's s_show() prints, from what it was made of."""

    def line(area: FakeArea, label: str) -> str:
        size = area.end - area.start
        return f"0x{area.start:016x}-0x{area.end:016x} {size:7d} {label}"

    labels = {None: "vm_map_ram", VM_ALLOC: "vmalloc", VM_MAP: "vmap"}
    busy = [(area, labels[area.vm_flags]) for area in kernel.areas]
    busy.sort(key=lambda one: one[0].start)
    lazy = [(area, "unpurged vm_area") for area in kernel.freed]
    if field.lazy == "llist":
        lazy.reverse()
    if field.lazy == "among":
        lazy = [
            (area, "vm_map_ram" if area.start == UNMARKED else label)
            for area, label in lazy
        ]
        return [line(*one) for one in sorted((*busy, *lazy), key=lambda o: o[0].start)]
    return [line(*one) for one in (*busy, *lazy)]
