# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Layout
------

Decides how this kernel lays out its vmap areas, the one place that does. Each
decision rests on what is there, a member, a variable or a function's prototype,
never on a version number, because stable and vendor kernels backport.
"""

from dataclasses import dataclass
from typing import List, Optional, Tuple

from drgn import Program, ProgramFlags, sizeof

from .._numpy import Record, np
from ..errors import GET_DEBUG_INFO, Fault, SymbolsError, TargetError
from ..model.areas import Kernel, Problem, ProblemKind, VmallocinfoRules
from ..model.tags import as_pointer
from .doors import Values
from .functions import Functions
from .memory.numa import numa_nodes
from .types.carried import carried_by
from .types.structs import (
    find_type,
    has_member,
    member_offset,
    need_offset,
    record_dtype,
    word_size,
)

__all__ = ("Layout", "guess_layout", "probe_layout")

_VMAP_AREA_MEMBERS = {
    "va_start": "va_start",
    "va_end": "va_end",
    "rb_parent": "rb_node.__rb_parent_color",
    "rb_left": "rb_node.rb_left",
    "rb_right": "rb_node.rb_right",
    "next": "list.next",
    "prev": "list.prev",
    "vm": "vm",
    "subtree_max_size": "subtree_max_size",
    "flags": "flags",
}

_VM_STRUCT_MEMBERS = {
    "addr": "addr",
    "vm_size": "size",
    "flags": "flags",
    "page_array": "pages",
    "page_order": "page_order",
    "nr_pages": "nr_pages",
    "phys_addr": "phys_addr",
    "caller": "caller",
    "requested_size": "requested_size",
}

_LINKS = ("rb_parent", "rb_left", "rb_right")
"""Fields of those members that are there as long as areas are kept in trees."""

_VMALLOC_VARIABLES = ("free_vmap_area_list", "vmap_area_root", "vmap_lazy_nr")
"""Variables one of which each kernel with an MMU has."""

_VMAP_NODE_MEMBERS = {
    "busy_root": "busy.root.rb_node",
    "lazy_root": "lazy.root.rb_node",
    "purge_list": "purge_list.next",
}


@dataclass(frozen=True)
class Layout:
    """The structs of this kernel as dtypes, and where the areas hang."""

    kernel: Kernel
    vmap_area: Record
    vm_struct: Record
    """Without any members if they are lost."""
    rb_offset: Optional[int]
    """Offset of vmap_area.rb_node; None where there are no red-black trees of areas."""
    list_offset: int
    """Offset of vmap_area.list."""
    has_old_flags: bool
    """vmap_area.flags has the bits of before 5.4."""
    has_free_tree: bool
    """What is free is kept in a tree and a list (since 5.2)."""
    vmap_node: Optional[Record]
    """None where there are no nodes (before 6.9)."""
    problems: Tuple[Problem, ...]
    """What could not be found out."""
    why_guessed: Optional[SymbolsError] = None
    """What became of the types, if they are lost: then whatever is read by this has to
    prove itself."""


def guess_layout(
    values: Values, page_size: int, word: Record, why: SymbolsError
) -> Layout:
    """
    Return how most kernels keep vmap areas, for a vmcore whose types are lost.

    :param word: The dtype of an ``unsigned long``.
    :param why: What became of its types.
    """
    size = word.itemsize
    # Since Linux kernel commit 688fcbfc06e4 ("mm/vmalloc: modify struct vmap_area to
    # reduce its size") (in v5.4); flags follow where there are any.
    links = ("rb_parent", "rb_right", "rb_left", "next", "prev", "vm")
    pointers = [(name, as_pointer(word)) for name in links]
    vmap_area = np.dtype([("va_start", word), ("va_end", word), *pointers])
    detail = f"areas in use are known by their looks, and only where they are: {why}"
    return Layout(
        kernel=Kernel(
            release=_release(values),
            layout="unknown",
            live=False,
            symbols="none",
            page_size=page_size,
            word_size=size,
            has_va_flags=False,
            has_nodes=False,
            numa_nodes=(),
            rules=VmallocinfoRules(
                per_node=False,
                ram_by_flag=False,
                uninitialized_listed=True,
                lazy_by_flag=False,
                lazy_after_vm_only=False,
                sparse_label=True,
                phys_digits=2 * size,
            ),
        ),
        vmap_area=vmap_area,
        vm_struct=np.dtype([]),
        rb_offset=2 * size,
        list_offset=5 * size,
        has_old_flags=False,
        has_free_tree=True,
        vmap_node=None,
        problems=(Problem(ProblemKind.UNREADABLE, "vmap_area", detail),),
        why_guessed=why,
    )


def probe_layout(
    values: Values, symbols: str, page_size: int, functions: Functions
) -> Layout:
    """
    Look at the program and say how its kernel keeps vmap areas.

    :param symbols: Where its types come from.
    :raises TargetError: if it is a kernel without vmap areas.
    :raises SymbolsError: if its types or variables are not known.
    """
    prog = values.prog
    _check_types(prog)
    # A series under review keeps areas in maple trees and in these lists.
    rb_offset = member_offset(prog, "struct vmap_area", "rb_node")
    vmap_area = _vmap_area(prog, has_trees=rb_offset is not None)
    vmap_node = _vmap_node(prog)
    has_old_flags = _has_old_flags(prog)
    if has_old_flags:
        _check_listing(prog)
    fields = vmap_area.names or ()
    problems = _torn_sources(prog) if symbols == "btf" else []
    nodes = _numa_nodes(values, problems)
    vm_struct = _vm_struct(prog, problems)
    has_nodes = vmap_node is not None
    has_flags = "flags" in fields and not has_old_flags
    return Layout(
        kernel=Kernel(
            release=_release(values),
            layout=_generation(prog, has_nodes, has_flags, has_old_flags),
            live=bool(prog.flags & ProgramFlags.IS_LIVE),
            symbols=symbols,
            page_size=page_size,
            word_size=word_size(prog),
            has_va_flags=has_flags,
            has_nodes=has_nodes,
            numa_nodes=nodes,
            rules=_vmallocinfo_rules(
                prog, has_nodes, has_flags, has_old_flags, functions
            ),
        ),
        vmap_area=vmap_area,
        vm_struct=vm_struct,
        rb_offset=rb_offset,
        list_offset=need_offset(prog, "struct vmap_area", "list"),
        has_old_flags=has_old_flags,
        # Since Linux kernel commit 68ad4a330433 ("mm/vmalloc.c: keep track of free
        # blocks for vmap allocation") (in v5.2).
        has_free_tree="subtree_max_size" in fields,
        vmap_node=vmap_node,
        problems=tuple(problems),
    )


def _release(values: Values) -> str:
    return values.need("UTS_RELEASE", values.text(lambda prog: prog["UTS_RELEASE"]))


def _vmap_area(prog: Program, has_trees: bool) -> Record:
    return record_dtype(
        prog,
        "struct vmap_area",
        _VMAP_AREA_MEMBERS,
        optional=("flags", "subtree_max_size", *(() if has_trees else _LINKS)),
        words=_VMAP_AREA_MEMBERS,
    )


def _vmap_node(prog: Program) -> Optional[Record]:
    if find_type(prog, "struct vmap_node") is None:
        return None
    return record_dtype(
        prog,
        "struct vmap_node",
        _VMAP_NODE_MEMBERS,
        optional=("busy_root", "lazy_root"),
        words=_VMAP_NODE_MEMBERS,
    )


def _vm_struct(prog: Program, problems: List[Problem]) -> Record:
    """Return its record, without any members if they are lost, which is a problem."""
    try:
        return record_dtype(
            prog,
            "struct vm_struct",
            _VM_STRUCT_MEMBERS,
            optional=("page_order", "requested_size"),
            words=("addr", "vm_size", "flags", "page_array", "caller"),
            # The kernel prints it as it is.
            tagged=("addr",),
        )
    except SymbolsError as e:
        detail = f"of areas there is nothing but their ranges: {e}"
        problems.append(Problem(ProblemKind.UNREADABLE, "vm_struct", detail))
        return np.dtype([])


def _numa_nodes(values: Values, problems: List[Problem]) -> Tuple[int, ...]:
    """Return the nodes that have memory; none if they are lost, which is a problem."""
    try:
        return numa_nodes(values)
    except (Fault, SymbolsError) as e:
        problems.append(_no_counts(e.why if isinstance(e, Fault) else str(e)))
        return ()


def _torn_sources(prog: Program) -> List[Problem]:
    """Say that of the kernel's own names or types some are lost."""
    detail = "parts are lost: what only these tell is missing"
    return [
        Problem(ProblemKind.UNREADABLE, what, detail)
        for what in carried_by(prog).losses
    ]


def _phys_addr_bytes(prog: Program) -> int:
    # One of 32 bits may have 64 of them (CONFIG_PHYS_ADDR_T_64BIT).
    return 8 if word_size(prog) == 8 else sizeof(prog.type("phys_addr_t"))


def _no_counts(why: str) -> Problem:
    return Problem(
        ProblemKind.UNREADABLE, "node_states", f"N counts are missing: {why}"
    )


def _check_types(prog: Program) -> None:
    if find_type(prog, "struct vmap_area") is not None:
        return
    # If parts of BTF are lost, there is a struct list_head in any case.
    has_mmu = any(map(prog.symbols, _VMALLOC_VARIABLES))
    if has_mmu or find_type(prog, "struct list_head") is None:
        raise SymbolsError(f"this kernel's types are not known: {GET_DEBUG_INFO}")
    raise TargetError("this kernel has no vmap areas (no MMU): nothing to show")


def _has_old_flags(prog: Program) -> bool:
    """
    Return whether the bits of vmap_area.flags are VM_LAZY_FREE and VM_VM_AREA.

    :raises SymbolsError: if that is lost.
    """
    # Until Linux kernel commit 688fcbfc06e4 ("mm/vmalloc: modify struct vmap_area to
    # reduce its size") (in v5.4), which put purge_list where vm is. Vendors' kernels that
    # took the later flags have them beside that.
    if not has_member(prog, "struct vmap_area", "flags"):
        return False
    purge_list = member_offset(prog, "struct vmap_area", "purge_list")
    return purge_list is not None and purge_list != member_offset(
        prog, "struct vmap_area", "vm"
    )


def _check_listing(prog: Program) -> None:
    """
    See that a kernel with old flags lists what has no vm.

    :raises TargetError: if it may not.
    """
    # Since Linux kernel commit 78c72746f56b ("vmalloc: show lazy-purged vma info in
    # vmallocinfo") (in v4.13), of which nothing tells. So older ones than commit
    # fddda2b7b521 ("proc: introduce proc_create_seq{,_data}") (in v4.18) are refused.
    if not has_member(prog, "struct proc_dir_entry", "seq_ops"):
        raise TargetError(
            "kernels before Linux 4.18 are not understood: go through vmap_area_list "
            "with drgn's own for_each_vmap_area()"
        )


def _generation(
    prog: Program, has_nodes: bool, has_flags: bool, has_old_flags: bool
) -> str:
    # Since Linux kernel commit d093602919ad ("mm: vmalloc: remove global vmap_area_root
    # rb-tree") (in v6.9), areas are spread over nodes.
    if has_nodes:
        return "E"
    # Since Linux kernel commit 869176a09606 ("mm/vmalloc.c: add flags to mark
    # vm_map_ram area") (in v6.3), areas have flags.
    if has_flags:
        # Since Linux kernel commit 062eacf57ad9 ("mm: vmalloc: remove a global
        # vmap_blocks xarray") (in v6.4), each CPU has an xarray of blocks.
        per_cpu = has_member(prog, "struct vmap_block_queue", "vmap_blocks")
        return "D" if per_cpu else "C"
    # Until Linux kernel commit dd3b8353bae7 ("mm/vmalloc: do not keep unpurged areas in
    # the busy tree") (in v5.4), lazily freed areas stayed among the others.
    if has_old_flags:
        return "before A"
    # Until Linux kernel commit 96e2db456135 ("mm/vmalloc: rework the drain logic")
    # (in v5.11), lazily freed areas were in an llist.
    return "A" if _has_purge_list(prog) else "B"


def _has_purge_list(prog: Program) -> bool:
    """
    Return whether lazily freed areas are in an llist.

    :raises SymbolsError: if that is lost.
    """
    try:
        return has_member(prog, "struct vmap_area", "purge_list")
    except SymbolsError:
        # The variables tell as well.
        for name, tells in (("vmap_purge_list", True), ("purge_vmap_area_root", False)):
            if prog.symbols(name):
                return tells
        raise


def _vmallocinfo_rules(
    prog: Program,
    has_nodes: bool,
    has_flags: bool,
    has_old_flags: bool,
    functions: Functions,
) -> VmallocinfoRules:
    return VmallocinfoRules(
        per_node=has_nodes,
        # Since Linux kernel commit bba9697b42ea ("mm/vmalloc: explicitly identify
        # vm_map_ram area when shown in /proc/vmcoreinfo") (in v6.3). It changed
        # no prototype; it came in one series with the flags.
        ram_by_flag=has_flags,
        # Since Linux kernel commit 5c5f0468d172 ("mm/vmalloc: fix data race in
        # show_numa_info()") (in v6.16, also in v6.12.y and v6.15.y), the caller passes
        # the counters, and skips areas that are not yet initialized.
        uninitialized_listed=not functions.has_parameter("show_numa_info", "counters"),
        # The labels came in Linux kernel commit 78c72746f56b ("vmalloc: show lazy-purged
        # vma info in vmallocinfo") (in v4.13), and went by flags until commit
        # dd3b8353bae7 ("mm/vmalloc: do not keep unpurged areas in the busy tree") (in
        # v5.4).
        lazy_by_flag=has_old_flags,
        lazy_after_vm_only=_lazy_after_vm_only(prog, has_flags, functions),
        # Since Linux kernel commit e6f798225a31 ("mm: Introduce VM_SPARSE kind and
        # vm_area_[un]map_pages().") (in v6.9).
        sparse_label=functions.has("vm_area_map_pages"),
        phys_digits=2 * _phys_addr_bytes(prog),
    )


def _lazy_after_vm_only(
    prog: Program, has_flags: bool, functions: Functions
) -> Optional[bool]:
    """Return whether the last area has to have a vm; None if nothing tells."""
    # Until Linux kernel commit 7cc7913e8e61 ("mm/vmalloc: make sure to dump unpurged
    # areas in /proc/vmallocinfo") (in v5.16), which changed no prototype. Older ones have
    # the llist that commit 96e2db456135 ("mm/vmalloc: rework the drain logic") (in v5.11)
    # removed, newer ones a parameter of commit 9333fe98d0a6 ("mm/vmalloc: add
    # adjust_search_size parameter") (in v5.18) or flags.
    if has_flags:
        return False
    if _has_purge_list(prog):
        return True
    newer = functions.has_parameter("find_vmap_lowest_match", "adjust_search_size")
    return False if newer else None
