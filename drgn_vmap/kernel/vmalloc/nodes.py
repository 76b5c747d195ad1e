# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Vmap nodes
----------

Reads ``struct vmap_node`` (mm/vmalloc.c, since 6.9), each of which holds a part
of the areas; kernels before that have one of everything.
"""

from dataclasses import dataclass
from typing import List, Tuple

from ..._numpy import Array, Record, np
from ...errors import Fault
from ...model.areas import Problem, ProblemKind
from ..doors import Values
from ..memory.bulk import Memory
from ..types.structs import need_offset

__all__ = ("VmapNodes", "read_nodes")

_VMALLOC_C = "mm/vmalloc.c"
_MAX_NODES = 128
"""vmap_init_nodes() makes at most this many."""


@dataclass(frozen=True)
class VmapNodes:
    """The struct vmap_node array of a kernel, less what could not be read."""

    index: Array
    address: List[int]
    records: Array
    raw: List[bytes]
    problems: Tuple[Problem, ...]


def read_nodes(values: Values, memory: Memory, dtype: Record) -> VmapNodes:
    """
    Read all struct vmap_node.

    :param dtype: Of these.
    :raises SymbolsError: if where they are, or how many, is not known.
    :raises Fault: if that cannot be read.
    """
    problems = []
    size = dtype.itemsize
    first = _first(values, memory)
    everywhere = [(first + i * size) % (1 << 64) for i in range(_MAX_NODES)]
    try:
        count = _count(values, first)
    except Fault as e:
        heads = _ListHeads(values, memory)
        count = next((i for i, at in enumerate(everywhere) if not heads.are(at)), 0)
        detail = f"is lost, {count} look like vmap_nodes: {e.why}"
        problems.append(Problem(ProblemKind.UNREADABLE, "nr_vmap_nodes", detail))
    if not 1 <= count <= _MAX_NODES:
        problems.append(Problem(ProblemKind.CORRUPT, "nr_vmap_nodes", f"is {count}"))
        count = min(max(count, 1), _MAX_NODES)
    index, address, raw = [], [], []
    for i, at in enumerate(everywhere[:count]):
        try:
            raw.append(memory.read(at, size))
        except Fault:
            where = f"vmap_node {i} at {at:#x}"
            problems.append(
                Problem(ProblemKind.UNREADABLE, where, "its areas are missing")
            )
        else:
            index.append(i)
            address.append(at)
    records = memory.records_in(b"".join(raw), dtype, len(raw))
    return VmapNodes(np.array(index, np.intp), address, records, raw, tuple(problems))


# On a single CPU and on 32 bits there is only ``single``, and the compiler may
# fold vmap_nodes and nr_vmap_nodes into constants.
def _first(values: Values, memory: Memory) -> int:
    nodes = values.number(lambda prog: prog["vmap_nodes"])
    if nodes is None:
        nodes = values.address("single", _VMALLOC_C)
        # Where there are others, nobody ever set this one up.
        if nodes is not None and not _ListHeads(values, memory).are(nodes):
            nodes = None
    return values.need("vmap_nodes", nodes)


def _count(values: Values, first: int) -> int:
    """
    Return how many there are.

    :raises Fault: if that is lost.
    """
    count = values.number(lambda prog: prog["nr_vmap_nodes"])
    if count is None and first != values.address("single", _VMALLOC_C):
        raise Fault("its name")
    return 1 if count is None else count


class _ListHeads:
    """Tells whether there is a vmap_node by its list of busy areas."""

    def __init__(self, values: Values, memory: Memory) -> None:
        self._memory = memory
        self._head = need_offset(values.prog, "struct vmap_node", "busy.head")
        self._next, self._prev = (
            need_offset(values.prog, "struct list_head", name)
            for name in ("next", "prev")
        )

    def are(self, node: int) -> bool:
        """Return whether the first entry of the list names its head."""
        head = node + self._head
        try:
            first = self._memory.pointer(head + self._next)
            return self._memory.pointer((first + self._prev) % (1 << 64)) == head
        except Fault:
            return False
