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

from drgn import FaultError, ObjectAbsentError, Program

from .._numpy import Array, np
from ..model.areas import Problem
from .layout import Layout

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


def read_nodes(prog: Program, layout: Layout) -> VmapNodes:
    """
    Read all struct vmap_node.

    :param layout: Of a kernel that has them.
    """
    assert layout.vmap_node is not None
    problems = []
    count = _count(prog)
    if not 1 <= count <= _MAX_NODES:
        problems.append(Problem("corrupt", "nr_vmap_nodes", f"is {count}"))
        count = min(max(count, 1), _MAX_NODES)
    size = layout.vmap_node.itemsize
    first = _first(prog)
    index, address, raw = [], [], []
    for i in range(count):
        at = first + i * size
        try:
            raw.append(prog.read(at, size))
        except FaultError:
            where = f"vmap_node {i} at {at:#x}"
            problems.append(Problem("unreadable", where, "its areas are missing"))
        else:
            index.append(i)
            address.append(at)
    records = np.frombuffer(b"".join(raw), layout.vmap_node)
    return VmapNodes(np.array(index, np.intp), address, records, raw, tuple(problems))


# On a single CPU and on 32 bits there is only ``single``, and the compiler may
# fold vmap_nodes and nr_vmap_nodes into constants.
def _first(prog: Program) -> int:
    try:
        return int(prog["vmap_nodes"].value_())
    except (KeyError, ObjectAbsentError):
        address = prog.variable("single", _VMALLOC_C).address_
        assert address is not None
        return address


def _count(prog: Program) -> int:
    try:
        return int(prog["nr_vmap_nodes"].value_())
    except (KeyError, ObjectAbsentError):
        return 1
