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

from ..._numpy import Array, U64Array, np, spread
from ...model.areas import AreaTable
from ...model.inspection import AreaTree, Inspection, VmPages
from ..layout import Layout
from ..target import Target
from ..types.structs import array_length, has_member, need_offset, record_dtype
from .activity import activity
from .area_pages import named_pages, rows_with_pages
from .blocks import take_blocks
from .counters import vmalloc_pages
from .lazy import lazy_pages
from .nodes import VmapNodes, read_nodes
from .snapshot import take_snapshot
from .trees import TreeNodes, walk_rb_trees

__all__ = ("inspect",)


def inspect(target: Target) -> Inspection:
    """
    Read all that a check needs, once: who checks a live kernel has to read it again.

    :raises VmapError: if the target is none that can be read.
    """
    target.forget()
    layout, values = target.layout, target.values
    dtype = layout.vmap_node
    nodes = read_nodes(values, target.memory, dtype) if dtype else None
    offset = None if target.by_lists else layout.rb_offset
    trees = () if offset is None else tuple(_area_trees(target, nodes, offset))
    snapshot = take_snapshot(target, all_states=True, once=True)
    return Inspection(
        snapshot=snapshot,
        blocks=take_blocks(target, once=True),
        trees=trees,
        vm_pages=_vm_pages(target, snapshot.areas),
        pools=_pool_lengths(target, nodes) if nodes else None,
        nr_nodes=len(nodes.index) if nodes else 1,
        zone_size=values.number(lambda prog: prog["vmap_zone_size"]) if nodes else None,
        lazy=lazy_pages(target),
        counter=vmalloc_pages(target),
        # Since Linux kernel commit aaab830ad887 ("mm/vmalloc: eliminated the lock
        # contention from twice to once") (in v6.10), the vm is passed down, to be set
        # before others see the area.
        vm_set_early=target.functions.has_parameter("alloc_vmap_area", "vm"),
        # Since Linux kernel commit a09fad96ffb1 ("mm/vmalloc: prevent flushing dirty
        # space over and over") (in v6.5), a flush empties the dirty ranges. It changed
        # no prototype; commit ca5e46c3400b ("mm/vmalloc: avoid iterating over per CPU
        # vmap blocks twice") (in v6.5), of the same series, made
        # purge_fragmented_block() a function of its own. Where inlining may hide it,
        # kernels that are not older than the xarrays of CPUs may be as new as that.
        dirty_range_reset=target.functions.has("purge_fragmented_block")
        or not target.functions.knows("purge_fragmented_block")
        and has_member(target.prog, "struct vmap_block_queue", "vmap_blocks"),
        activity=activity(target),
    )


def _area_trees(
    target: Target, nodes: Optional[VmapNodes], rb_offset: int
) -> Iterator[AreaTree]:
    """Yield each tree whose areas are in a list as well."""
    if nodes:
        for kind in ("busy", "lazy"):
            offset = need_offset(target.prog, "struct vmap_node", f"{kind}.head")
            heads = [address + offset for address in nodes.address]
            names = [f"{kind} areas of node {i}" for i in nodes.index.tolist()]
            roots = nodes.records[f"{kind}_root"]
            yield from _trees(target, rb_offset, names, roots, heads)
    for name, variable in (
        ("busy areas", "vmap_area"),
        ("lazy areas", "purge_vmap_area"),
        ("free areas", "free_vmap_area"),
    ):
        root = target.values.number(lambda prog: prog[f"{variable}_root"].rb_node)
        head = target.values.address(f"{variable}_list")
        if root is not None and head is not None:
            roots = np.array([root], np.uint64)
            yield from _trees(target, rb_offset, [name], roots, [head])


def _trees(
    target: Target,
    rb_offset: int,
    names: List[str],
    roots: U64Array,
    heads: List[int],
) -> Iterator[AreaTree]:
    layout, memory = target.layout, target.memory
    found = walk_rb_trees(memory, roots, layout.vmap_area, rb_offset)
    word = layout.kernel.word_size
    for index, (name, root, head) in enumerate(zip(names, roots.tolist(), heads)):
        tree = _tree(layout, rb_offset, found, index)
        yield replace(
            tree,
            name=name,
            root=root,
            head=head,
            first=memory.pointer(head),
            last=memory.pointer(head + word),
            largest=tree.largest if name == "free areas" else None,
        )


def _tree(layout: Layout, rb_offset: int, found: TreeNodes, index: int) -> AreaTree:
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
        link=address + np.uint64(layout.list_offset),
        next=records["next"],
        prev=records["prev"],
        rb=address + np.uint64(rb_offset),
        left=records["rb_left"],
        right=records["rb_right"],
        largest=records["subtree_max_size"] if layout.has_free_tree else None,
    )


def _vm_pages(target: Target, areas: AreaTable) -> VmPages:
    """Look up the pages of areas that vmalloc() filled or vmap() was given to keep."""
    page_size = np.uint64(target.page_size)
    rows = rows_with_pages(target, areas)
    row, place = spread(areas.nr_pages[rows])
    row, index = rows[row], place.astype(np.uint64)
    named = named_pages(target, areas, row, index)
    found = target.page_table.translate(areas.start[row] + index * page_size)
    return VmPages(
        row, index, named.page, named.phys, found.phys, found.known & named.ok
    )


def _pool_lengths(target: Target, nodes: VmapNodes) -> Array:
    """Read vmap_pool.len of each pool of each node."""
    offset = need_offset(target.prog, "struct vmap_node", "pool")
    count = array_length(target.prog, "struct vmap_node", "pool")
    pool = record_dtype(target.prog, "struct vmap_pool", {"len": "len"})
    rows = [np.frombuffer(raw, pool, count, offset)["len"] for raw in nodes.raw]
    return np.array(rows).reshape(len(rows), count)
