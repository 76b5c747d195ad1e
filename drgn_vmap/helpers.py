# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Helpers
-------

Object-level helpers for exploring by hand, in the style of drgn's own. They walk
the kernel's lists, where ``take_snapshot()`` walks its trees, so that the two can
be held against each other.

    >>> from drgn_vmap.helpers import *
    >>> for va in for_each_valid_vmap_area():
    ...     print(hex(va.va_start), decode_vmap_area_flags(va))
"""

import operator
from typing import Iterator, NamedTuple, Optional

from drgn import IntegerLike, Object, ObjectAbsentError, Program
from drgn.helpers import ValidationError
from drgn.helpers.common.prog import takes_program_or_default
from drgn.helpers.linux.list import validate_list_for_each_entry
from drgn.helpers.linux.mm import find_vmap_area

from .model import VM_FLAGS, VMAP_BLOCK, VMAP_RAM

__all__ = (
    "VmapAddress",
    "decode_vm_struct_flags",
    "decode_vmap_area_flags",
    "for_each_valid_vmap_area",
    "identify_vmap_address",
)

_NODE_SHIFT = 8


class VmapAddress(NamedTuple):
    """What a virtual address is in a vmap area."""

    area: Object
    """``struct vmap_area *``"""
    vm: Object
    """``struct vm_struct *``, ``NULL`` if vm_map_ram() made the area."""
    offset: int
    """Bytes from the start of the area."""
    page_index: int
    """Pages from the start of the area."""


@takes_program_or_default
def for_each_valid_vmap_area(prog: Program) -> Iterator[Object]:
    """
    Iterate over busy areas in list order, checking every link and that addresses
    ascend.

    >>> for va in for_each_valid_vmap_area():
    ...     print(hex(va.va_start))
    ...
    0xffffa2b680000000
    0xffffa2b680005000
    ...

    :return: Iterator of ``struct vmap_area *`` objects.
    :raises ValidationError: if a list is inconsistent; areas before the damage
        were already yielded.
    """
    for head in _busy_heads(prog):
        end = 0
        for va in validate_list_for_each_entry("struct vmap_area", head, "list"):
            start = va.va_start.value_()
            if not end <= start < va.va_end.value_():
                raise ValidationError(
                    f"(struct vmap_area *){va.value_():#x} at {start:#x} "
                    f"does not follow on {end:#x}"
                )
            yield va
            end = va.va_end.value_()


def _busy_heads(prog: Program) -> Iterator[Object]:
    """Yield the head of each list of busy areas."""
    # Since Linux kernel commit d093602919ad ("mm: vmalloc: remove global
    # vmap_area_root rb-tree") (in v6.9), each struct vmap_node has a list. Where
    # there can only be one node, the compiler may have folded the variables.
    try:
        nodes = prog["vmap_nodes"].read_()
        count = prog["nr_vmap_nodes"].value_()
    except ObjectAbsentError:
        nodes = prog.variable("single", "mm/vmalloc.c").address_of_()
        count = 1
    except KeyError:
        yield prog["vmap_area_list"].address_of_()
        return
    for i in range(count):
        yield nodes[i].busy.head.address_of_()


def decode_vmap_area_flags(va: Object) -> str:
    """
    Return a human-readable string of the flags of a vmap area.

    >>> decode_vmap_area_flags(find_vmap_area(0xffffa2b680100000))
    'VMAP_RAM|VMAP_BLOCK|node 1'

    :param va: ``struct vmap_area *``
    :raises AttributeError: if this kernel's areas have no flags (before 6.3).
    """
    flags = va.flags.value_()
    names = []
    if flags & VMAP_RAM:
        names.append("VMAP_RAM")
    if flags & VMAP_BLOCK:
        names.append("VMAP_BLOCK")
    # Since areas have nodes (in v6.9), the index of the one an area was allocated
    # from stands above the flags, plus one.
    if flags >> _NODE_SHIFT:
        names.append(f"node {(flags >> _NODE_SHIFT) - 1}")
    return "|".join(names) or "0"


def decode_vm_struct_flags(vm: Object) -> str:
    """
    Return a human-readable string of the flags of a vm_struct.

    >>> decode_vm_struct_flags(find_vmap_area(0xffffa2b680000000).vm)
    'VM_MAP'

    :param vm: ``struct vm_struct *``
    """
    flags = vm.flags.value_()
    names = [name for name, bit in VM_FLAGS.items() if flags & bit]
    rest = flags & ~sum(VM_FLAGS.values())
    if rest:
        names.append(f"{rest:#x}")
    return "|".join(names) or "0"


@takes_program_or_default
def identify_vmap_address(prog: Program, addr: IntegerLike) -> Optional[VmapAddress]:
    """
    Find what a virtual address belongs to.

    >>> identify_vmap_address(0xffffa2b680003210).page_index
    3

    :param addr: ``void *``
    :return: The area around it, or ``None`` if it lies in no busy area.
    """
    va = find_vmap_area(prog, addr)
    if not va:
        return None
    offset = operator.index(addr) - va.va_start.value_()
    page_size = prog["PAGE_SIZE"].value_()
    return VmapAddress(va, va.vm.read_(), offset, offset // page_size)
