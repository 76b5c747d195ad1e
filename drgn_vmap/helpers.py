# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Helpers
-------

Object-level helpers for exploring by hand, in the style of drgn's own. They walk
the kernel's lists, where ``take_snapshot()`` walks its trees, so that the two can
be held against each other. Without debug info, each lets drgn know the kernel's types
first, as ``load_types()`` does.

    >>> from drgn_vmap.helpers import *
    >>> for va in for_each_valid_vmap_area():
    ...     print(hex(va.va_start), decode_vmap_area_flags(va))
"""

# First, as it says so if drgn is too old for the others.
from .api import has_old_area_flags, load_types  # isort: skip

import operator
from functools import wraps
from typing import Any, Callable, Iterator, NamedTuple, Optional, Tuple, TypeVar

from drgn import NULL, IntegerLike, Object, ObjectAbsentError, Program, cast, sizeof
from drgn.helpers import ValidationError
from drgn.helpers.common.prog import takes_program_or_default
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.list import validate_list_for_each_entry
from drgn.helpers.linux.mm import find_vmap_area
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.xarray import xa_for_each

from .model.areas import VM_FLAGS, VM_LAZY_FREE, VM_VM_AREA, VMAP_BLOCK, VMAP_RAM
from .model.tags import ANY_TAGS

__all__ = (
    "VmapAddress",
    "decode_vm_struct_flags",
    "decode_vmap_area_flags",
    "find_vmap_block",
    "for_each_valid_vmap_area",
    "for_each_vmap_block",
    "identify_vmap_address",
    "vmap_block_used_ranges",
)

_NODE_SHIFT = 8
_VA_FLAGS = {"VMAP_RAM": VMAP_RAM, "VMAP_BLOCK": VMAP_BLOCK}
_OLD_VA_FLAGS = {"VM_LAZY_FREE": VM_LAZY_FREE, "VM_VM_AREA": VM_VM_AREA}
"""Of vmap areas before 5.4."""
_Found = TypeVar("_Found")


def _with_types(helper: Callable[..., _Found]) -> Callable[..., _Found]:
    """Let a program know its kernel's types before it is looked into."""

    @wraps(helper)
    def wrapper(prog: Program, *args: Any, **kwargs: Any) -> _Found:
        load_types(prog)
        return helper(prog, *args, **kwargs)

    return wrapper


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
@_with_types
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

    >>> decode_vmap_area_flags(identify_vmap_address(0xffffa2b680100000).area)
    'VMAP_RAM|VMAP_BLOCK|node 1'

    :param va: ``struct vmap_area *``
    :raises AttributeError: if this kernel's areas have no flags (since 5.4, before 6.3).
    """
    flags = va.flags.value_()
    known = _OLD_VA_FLAGS if has_old_area_flags(va.prog_) else _VA_FLAGS
    names = [name for name, bit in known.items() if flags & bit]
    # Since Linux kernel commit 72210662c5a2 ("mm: vmalloc: offload free_vmap_area_lock
    # lock") (in v6.9), the index of the node an area was allocated from stands above
    # the flags, plus one.
    if flags >> _NODE_SHIFT:
        names.append(f"node {(flags >> _NODE_SHIFT) - 1}")
    return "|".join(names) or "0"


def decode_vm_struct_flags(vm: Object) -> str:
    """
    Return a human-readable string of the flags of a vm_struct.

    >>> decode_vm_struct_flags(identify_vmap_address(0xffffa2b680000000).vm)
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
@_with_types
def identify_vmap_address(prog: Program, addr: IntegerLike) -> Optional[VmapAddress]:
    """
    Find what a virtual address belongs to.

    >>> identify_vmap_address(0xffffa2b680003210).page_index
    3

    :param addr: ``void *``
    :return: The area around it, or ``None`` if it lies in no busy area.
    """
    address = ANY_TAGS.off(operator.index(addr))
    va = find_vmap_area(prog, address)
    if not va:
        return None
    offset = address - va.va_start.value_()
    page_size = prog["PAGE_SIZE"].value_()
    vm = va.vm.read_()
    # Where the flag is missing, nobody ever wrote a vm.
    if has_old_area_flags(prog) and not va.flags.value_() & VM_VM_AREA:
        vm = NULL(prog, vm.type_)
    return VmapAddress(va, vm, offset, offset // page_size)


@takes_program_or_default
@_with_types
def for_each_vmap_block(prog: Program) -> Iterator[Object]:
    """
    Iterate over the blocks that vm_map_ram() takes small mappings from.

    >>> for vb in for_each_vmap_block():
    ...     print(hex(vb.va.va_start), vb.free.value_(), vb.dirty.value_())
    ...
    0xffffa2b680100000 10 57
    ...

    :return: Iterator of ``struct vmap_block *`` objects.
    """
    for xarray in _block_xarrays(prog):
        for _, entry in xa_for_each(xarray):
            yield cast("struct vmap_block *", entry)


def _block_xarrays(prog: Program) -> Iterator[Object]:
    """Yield each ``struct xarray *`` of blocks."""
    # Since Linux kernel commit 062eacf57ad9 ("mm: vmalloc: remove a global
    # vmap_blocks xarray") (in v6.4), each CPU has one.
    # Until commit 0f14599c607d ("vmalloc: convert to XArray") (in v5.9), all were in a
    # radix tree, which is walked alike.
    for name, kind in (
        ("vmap_blocks", "struct xarray *"),
        ("vmap_block_tree", _radix_tree(prog)),
    ):
        if name in prog:
            yield cast(kind, prog[name].address_of_())
            return
    for cpu in for_each_possible_cpu(prog):
        yield per_cpu(prog["vmap_block_queue"], cpu).vmap_blocks.address_of_()


def _radix_tree(prog: Program) -> str:
    """Return what the root of a radix tree is."""
    # Since Linux kernel commit f8d5d0cc145c ("xarray: Add definition of struct xarray") (in
    # v4.20), an xarray.
    try:
        return str(prog.type("struct radix_tree_root *").type_name())
    except LookupError:
        return "struct xarray *"


@takes_program_or_default
@_with_types
def find_vmap_block(prog: Program, addr: IntegerLike) -> Object:
    """
    Return the block that a virtual address lies in.

    >>> find_vmap_block(0xffffa2b680103210).free
    (unsigned long)10

    :param addr: ``void *``
    :return: ``struct vmap_block *``, ``NULL`` if it lies in none.
    """
    address = ANY_TAGS.off(operator.index(addr))
    # Which CPU's xarray has a block changed without a trace, in Linux kernel commit
    # a34acf30b19b ("mm: vmalloc: check if a hash-index is in cpu_possible_mask") (in
    # v6.10, also in v6.6.y and v6.9.y), so none is trusted.
    for vb in for_each_vmap_block(prog):
        va = vb.va
        if va.va_start.value_() <= address < va.va_end.value_():
            return vb
    return NULL(prog, "struct vmap_block *")


def vmap_block_used_ranges(vb: Object) -> Iterator[Tuple[int, int]]:
    """
    Iterate over the runs of pages of a block that are in use.

    >>> list(vmap_block_used_ranges(find_vmap_block(0xffffa2b680103210)))
    [(0, 3), (7, 19)]

    :param vb: ``struct vmap_block *``
    :return: Iterator of the index of a run's first page, and of the first one
        behind it.
    :raises AttributeError: if this kernel's blocks have no bitmap (before 6.3).
    """
    word_bits = 8 * sizeof(vb.used_map[0])
    words = (word.value_() for word in vb.used_map)
    bitmap = sum(word << index * word_bits for index, word in enumerate(words))
    first = 0
    while bitmap >> first:
        first += (bitmap >> first & -(bitmap >> first)).bit_length() - 1
        run = bitmap >> first
        end = first + (~run & run + 1).bit_length() - 1
        yield first, end
        first = end
