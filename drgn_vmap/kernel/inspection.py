# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Inspection
----------

Reads what the kernel keeps twice, so that one can be held against the other:
lists and trees, page arrays and the page table, counters and what they count.
"""

from dataclasses import replace
from typing import Iterator, List, Optional

from drgn import ObjectAbsentError, Program, Type, offsetof

from .._numpy import Array, U64Array, np
from ..model.areas import AreaTable, Kernel
from ..model.inspection import AreaTree, Inspection, VmPages
from .activity import activity
from .area_pages import named_pages, rows_with_pages
from .blocks import take_blocks
from .counters import vmalloc_pages
from .functions import has_function, has_parameter
from .layout import Layout, probe_layout
from .lazy import lazy_pages
from .memory import Memory
from .nodes import VmapNodes, read_nodes
from .pagetable import PageTable
from .snapshot import take_snapshot
from .structs import record_dtype
from .trees import TreeNodes, walk_rb_trees

__all__ = ("inspect",)


def inspect(prog: Program) -> Inspection:
    """
    Read all that a check needs, once: who checks a live kernel has to read it again.

    :raises VmapError: if the target is none that can be read.
    """
    layout = probe_layout(prog)
    kernel = layout.kernel
    memory = Memory(prog, kernel.page_size)
    nodes = read_nodes(prog, layout) if layout.vmap_node else None
    trees = tuple(_area_trees(prog, memory, layout, nodes))
    snapshot = take_snapshot(prog, all_states=True, once=True)
    return Inspection(
        snapshot=snapshot,
        blocks=take_blocks(prog, once=True),
        trees=trees,
        vm_pages=_vm_pages(prog, kernel, snapshot.areas),
        pools=_pool_lengths(prog, nodes) if nodes else None,
        nr_nodes=len(nodes.index) if nodes else 1,
        zone_size=_zone_size(prog) if nodes else None,
        lazy=lazy_pages(prog),
        counter=vmalloc_pages(prog),
        # Newer kernels (v6.10) pass the vm down, to be set before others see the area.
        vm_set_early=has_parameter(prog, "alloc_vmap_area", "vm"),
        # Since v6.5 a flush empties the dirty ranges. That came in one series with
        # purge_fragmented_block() becoming a function of its own.
        dirty_range_reset=has_function(prog, "purge_fragmented_block"),
        activity=activity(prog),
    )


def _area_trees(
    prog: Program, memory: Memory, layout: Layout, nodes: Optional[VmapNodes]
) -> Iterator[AreaTree]:
    """Yield each tree whose areas are in a list as well."""
    if nodes:
        for kind in ("busy", "lazy"):
            offset = offsetof(prog.type("struct vmap_node"), f"{kind}.head")
            heads = [address + offset for address in nodes.address]
            names = [f"{kind} areas of node {i}" for i in nodes.index.tolist()]
            roots = nodes.records[f"{kind}_root"]
            yield from _trees(prog, memory, layout, names, roots, heads)
    for name, variable in (
        ("busy areas", "vmap_area"),
        ("lazy areas", "purge_vmap_area"),
        ("free areas", "free_vmap_area"),
    ):
        try:
            root = prog[f"{variable}_root"].rb_node.value_()
            head = prog[f"{variable}_list"].address_
        except KeyError:
            continue
        assert head is not None
        roots = np.array([root], np.uint64)
        yield from _trees(prog, memory, layout, [name], roots, [head])


def _trees(
    prog: Program,
    memory: Memory,
    layout: Layout,
    names: List[str],
    roots: U64Array,
    heads: List[int],
) -> Iterator[AreaTree]:
    found = walk_rb_trees(memory, roots, layout.vmap_area, layout.rb_offset)
    word = layout.kernel.word_size
    for index, (name, root, head) in enumerate(zip(names, roots.tolist(), heads)):
        tree = _tree(layout, found, index, prog.type("struct vmap_area"))
        yield replace(
            tree,
            name=name,
            root=root,
            head=head,
            first=prog.read_word(head),
            last=prog.read_word(head + word),
            largest=tree.largest if name == "free areas" else None,
        )


def _tree(layout: Layout, found: TreeNodes, index: int, area: Type) -> AreaTree:
    """Return the areas of one of the trees that were walked."""
    rows = np.flatnonzero(found.root == index)
    records, address = found.records.take(rows), found.address[rows]
    return AreaTree(
        name="",
        head=0,
        first=0,
        last=0,
        root=0,
        address=address,
        start=records["va_start"],
        end=records["va_end"],
        link=address + np.uint64(area.member("list").offset),
        next=records["next"],
        prev=records["prev"],
        rb=address + np.uint64(layout.rb_offset),
        left=records["rb_left"],
        right=records["rb_right"],
        largest=records["subtree_max_size"],
    )


def _vm_pages(prog: Program, kernel: Kernel, areas: AreaTable) -> VmPages:
    """Look up the pages of areas that vmalloc() filled or vmap() was given to keep."""
    page_size = np.uint64(kernel.page_size)
    rows = rows_with_pages(areas, kernel.page_size)
    counts = areas.nr_pages[rows].astype(np.intp)
    row = np.repeat(rows, counts)
    index: U64Array = np.arange(len(row), dtype=np.uint64)
    index -= np.repeat(np.cumsum(counts) - counts, counts).astype(np.uint64)
    named = named_pages(prog, kernel.page_size, areas, row, index)
    found = PageTable(prog, kernel.page_size).translate(
        areas.start[row] + index * page_size
    )
    return VmPages(
        row, index, named.page, named.phys, found.phys, found.known & named.ok
    )


def _pool_lengths(prog: Program, nodes: VmapNodes) -> Array:
    """Read vmap_pool.len of each pool of each node."""
    node = prog.type("struct vmap_node")
    offset = offsetof(node, "pool")
    count = node.member("pool").type.length or 0
    pool = record_dtype(prog, "struct vmap_pool", {"len": "len"})
    rows = [np.frombuffer(raw, pool, count, offset)["len"] for raw in nodes.raw]
    return np.array(rows).reshape(len(rows), count)


def _zone_size(prog: Program) -> Optional[int]:
    try:
        return int(prog["vmap_zone_size"].value_())
    except (KeyError, ObjectAbsentError):
        return None
