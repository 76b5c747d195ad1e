# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Where in a sample there is something that verbs read. Members of structs are found with
drgn's own helpers; what else is read, by looking on while verbs run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Iterable, Iterator, Optional

from drgn import FaultError, Object, Program, Type, TypeKind, sizeof
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import follow_phys, for_each_vmap_area
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.rbtree import rbtree_inorder_for_each_entry

from .image import PAGE, Image

__all__ = ("VARIABLES", "Place", "Places")

_MOST_OBJECTS = 200
"""Of one type: more of them are only more of the same."""
_MOST_ELEMENTS = 4
"""Of an array in a struct."""
VARIABLES = (
    "vmap_nodes",
    "nr_vmap_nodes",
    "vmap_zone_size",
    "free_vmap_area_list",
    "free_vmap_area_root",
    "vmap_area_list",
    "vmap_area_root",
    "purge_vmap_area_list",
    "purge_vmap_area_root",
    "vmap_purge_list",
    "vmap_lazy_nr",
    "nr_vmalloc_pages",
    "vmap_blocks",
    "kcore_vmalloc",
    "vmalloc_base",
    "ptr_key",
    "no_hash_pointers",
    "kptr_restrict",
    "node_data",
    "node_states",
    "vm_node_stat",
    "nr_node_ids",
    "nr_cpu_ids",
    "__cpu_possible_mask",
    "__cpu_online_mask",
    "__per_cpu_offset",
    "mem_section",
    "__highest_present_section_nr",
    "_totalram_pages",
    "iomem_resource",
    "modules",
)
#: Of large structs, what verbs look at.
_MEMBERS = {
    "module": ("list", "name", "mem", "core_layout", "init_layout", "kallsyms"),
    "pglist_data": ("node_start_pfn", "node_spanned_pages", "node_present_pages"),
}


@dataclass(frozen=True)
class Place:
    """A member of an object."""

    name: str
    """Such as ``vmap_area.va_start``."""
    address: int
    size: int
    link: int = 0
    """What others of its kind point to: the struct in its object that it is a member of."""


class Places:
    """
    Members and words of a sample that verbs read.

    :param prog: An undamaged program that has types.
    :param reads: What verbs read: offsets in the file, and bytes.
    """

    def __init__(
        self, prog: Program, image: Image, reads: Iterable[tuple[int, int]]
    ) -> None:
        self._prog = prog
        self._image = image
        self.objects: dict[str, list[Object]] = {}
        """Some of each type."""
        self._members: dict[str, list[_Member]] = {}
        seen = set()
        for name, found in _objects(prog):
            if (name, found.address_) not in seen:
                seen.add((name, found.address_))
                self._add(name, found)
        words: set[int] = set()
        pages: set[int] = set()
        for at, count in reads:
            if count < PAGE:
                words.update(range(at & ~7, at + count, 8))
            pages.update(range(at // PAGE, (at + count - 1) // PAGE + 1))
        self.words = sorted(words)
        """Offsets in the file of words that were read by themselves."""
        self.pages = [page * PAGE for page in sorted(pages)]
        """Offsets in the file of pages of which anything was read."""

    def draw_member(self, draw: Random, name: str = "") -> Place:
        """Return a member, of a type and of an object of it that are drawn."""
        name = name or draw.choice([*self.objects])
        found = draw.choice(self.objects[name])
        return draw.choice(self._members[name]).of(name, found)

    def draw_same_member(self, draw: Random, place: Place) -> Place:
        """Return the same member of an object of the same type; of itself sometimes."""
        same = self.same_members(place)
        return draw.choice(same) if same and draw.random() < 0.7 else place

    def same_members(self, place: Place) -> list[Place]:
        """Return this member of all objects of its type."""
        return [
            member.of(name, found)
            for name, objects in self.objects.items()
            if place.name.startswith(name)
            for member in self._members[name]
            if name + member.name == place.name
            for found in objects
        ]

    def offset(self, address: int) -> Optional[int]:
        """Return where in the file a virtual address lies."""
        at = self._image.at_virtual(address)
        if at is not None:
            return at
        try:
            physical = follow_phys(self._prog["init_mm"].address_of_(), address)
        except FaultError:
            return None
        return self._image.at_physical(int(physical))

    def word_of_a_page(self, draw: Random) -> int:
        """Return the offset of a word of a page that is read; mostly of one that is not 0."""
        page = draw.choice(self.pages)
        data = self._image.data
        words = [
            at
            for at in range(page, min(page + PAGE, len(data) - 7), 8)
            if data[at : at + 8] != bytes(8)
        ]
        if words and draw.random() < 0.9:
            return draw.choice(words)
        return page + 8 * draw.randrange(PAGE // 8)

    def _add(self, name: str, found: Object) -> None:
        if name not in self._members:
            keep = _MEMBERS.get(name)
            self._members[name] = [
                member
                for member in _members(found.type_)
                if not keep or re.split(r"[.[]", member.name)[1] in keep
            ]
            self.objects[name] = []
        if self._members[name]:
            self.objects[name].append(found)
        else:
            self.objects.pop(name, None)


@dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size: int
    link_offset: int

    def of(self, name: str, found: Object) -> Place:
        """Return it in an object."""
        address = int(found.address_ or 0)
        link = address + self.link_offset
        return Place(name + self.name, address + self.offset, self.size, link)


def _members(
    type_: Type, name: str = "", at: int = 0, link: int = 0
) -> Iterator[_Member]:
    """Yield each number and pointer that a type is made of."""
    while type_.kind == TypeKind.TYPEDEF:
        type_ = type_.type
    if type_.kind in (TypeKind.STRUCT, TypeKind.UNION):
        for member in type_.members or ():
            if member.bit_field_size is None:
                inner = f"{name}.{member.name}" if member.name else name
                start = at + member.offset
                yield from _members(member.type, inner, start, at)
    elif type_.kind == TypeKind.ARRAY:
        size = sizeof(type_.type)
        for index in range(min(type_.length or 0, _MOST_ELEMENTS)):
            start = at + index * size
            yield from _members(type_.type, f"{name}[{index}]", start, start)
    elif type_.kind != TypeKind.VOID:
        yield _Member(name, at, sizeof(type_), link)


def _objects(prog: Program) -> Iterator[tuple[str, Object]]:
    """Yield objects that verbs read, and the name of each one's type or variable."""
    for name in VARIABLES:
        try:
            yield name, prog[name]
        except KeyError:
            pass
    for area in islice(for_each_vmap_area(prog), _MOST_OBJECTS):
        yield "vmap_area", area[0]
        if area.vm:
            yield "vm_struct", area.vm[0]
    free = prog["free_vmap_area_root"].address_of_()
    for hole in islice(
        rbtree_inorder_for_each_entry("struct vmap_area", free, "rb_node"),
        _MOST_OBJECTS,
    ):
        yield "free vmap_area", hole[0]
    for cpu in for_each_possible_cpu(prog):
        queue = per_cpu(prog["vmap_block_queue"], cpu)
        yield "vmap_block_queue", queue
        for block in list_for_each_entry(
            "struct vmap_block", queue.free.address_of_(), "free_list"
        ):
            yield "vmap_block", block[0]
    try:
        nodes, count = prog["vmap_nodes"], int(prog["nr_vmap_nodes"])
    except KeyError:
        count = 0
    for index in range(count):
        yield "vmap_node", nodes[index]
    for module in for_each_module(prog):
        yield "module", module[0]
        if module.kallsyms:
            yield "mod_kallsyms", module.kallsyms[0]
            for index in range(min(int(module.kallsyms.num_symtab), 8)):
                yield "Elf64_Sym", module.kallsyms.symtab[index]
    yield "pglist_data", prog["node_data"][0][0]
