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

from ..._numpy import Array, np
from ...errors import Fault
from ...model.areas import Problem, ProblemKind
from ..doors import Values
from ..layout import Layout
from ..memory.bulk import Memory

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


def read_nodes(values: Values, memory: Memory, layout: Layout) -> VmapNodes:
    """
    Read all struct vmap_node.

    :param layout: Of a kernel that has them.
    :raises SymbolsError: if where they are is not known.
    :raises Fault: if that cannot be read.
    """
    assert layout.vmap_node is not None
    problems = []
    count = _count(values)
    if not 1 <= count <= _MAX_NODES:
        problems.append(Problem(ProblemKind.CORRUPT, "nr_vmap_nodes", f"is {count}"))
        count = min(max(count, 1), _MAX_NODES)
    size = layout.vmap_node.itemsize
    first = _first(values)
    index, address, raw = [], [], []
    for i in range(count):
        at = (first + i * size) % (1 << 64)
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
    records = np.frombuffer(b"".join(raw), layout.vmap_node)
    return VmapNodes(np.array(index, np.intp), address, records, raw, tuple(problems))


# On a single CPU and on 32 bits there is only ``single``, and the compiler may
# fold vmap_nodes and nr_vmap_nodes into constants.
def _first(values: Values) -> int:
    nodes = values.number(lambda prog: prog["vmap_nodes"])
    if nodes is None:
        nodes = values.address("single", _VMALLOC_C)
    return values.need("vmap_nodes", nodes)


def _count(values: Values) -> int:
    count = values.number(lambda prog: prog["nr_vmap_nodes"])
    return 1 if count is None else count
