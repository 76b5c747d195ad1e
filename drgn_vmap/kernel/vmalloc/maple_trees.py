# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Maple trees
-----------

Reads what ranges a maple tree has (``struct maple_tree``, include/linux/maple_tree.h). Of
its kinds of nodes, those that keep no gaps are known, which all have the same form.
"""

from typing import Iterator, List, NamedTuple, Set

from ...errors import Fault
from ..target import Target
from ..types.structs import need_offset, record_dtype
from .trees import XARRAY

__all__ = ("MapleRange", "maple_ranges")

_NODE_MASK = 0xFF
"""Nodes are aligned; the low bits of a pointer to one say what it is."""
_TYPE_SHIFT = 3
_LEAF, _RANGE = 1, 2
"""maple_leaf_64 and maple_range_64 of enum maple_type."""
_MAX_NODES = 1 << 14
_LAST = (1 << 64) - 1


class MapleRange(NamedTuple):
    """A range of indices with an entry."""

    first: int
    last: int


class _Node(NamedTuple):
    pointer: int
    first: int
    last: int
    """The indices that it covers."""


def maple_ranges(target: Target, tree: int) -> Iterator[MapleRange]:
    """
    Yield the ranges of a tree that have an entry, in no order.

    :param tree: Address of the ``struct maple_tree``.
    :raises Fault: if a node cannot be read, or is none.
    """
    prog, memory = target.prog, target.memory
    root = memory.pointer(tree + need_offset(prog, "struct maple_tree", "ma_root"))
    members = {"pivot": "pivot[]", "slot": "slot[]"}
    dtype = record_dtype(prog, "struct maple_range_64", members)
    left: List[_Node] = []
    # Anything else is the entry of index 0, or there is none.
    if root & 3 == XARRAY.internal:
        left.append(_Node(root, 0, _LAST))
    seen: Set[int] = set()
    while left:
        node = left.pop()
        address, type_ = node.pointer & ~_NODE_MASK, node.pointer >> _TYPE_SHIFT & 15
        if address in seen or len(seen) == _MAX_NODES or type_ not in (_LEAF, _RANGE):
            raise Fault(f"maple node {node.pointer:#x} cannot be")
        seen.add(address)
        record = memory.record(address, dtype)
        first = node.first
        slots, pivots = record["slot"].tolist(), [*record["pivot"].tolist(), node.last]
        for slot, pivot in zip(slots, pivots):
            # A pivot of 0 behind the first slot ends a node that is not full.
            last = min(pivot, node.last) if pivot or first == 0 else node.last
            if slot and type_ == _LEAF:
                yield MapleRange(first, last)
            elif slot:
                left.append(_Node(slot, first, last))
            if last >= node.last or last < first:
                break
            first = last + 1
