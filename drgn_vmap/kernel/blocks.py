# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Blocks
------

Finds ``struct vmap_block`` (mm/vmalloc.c), which divide an area among many small
vm_map_ram() mappings.
"""

from typing import List, Tuple

from drgn import Program

from .._numpy import U64Array, np
from ..model import Problem
from .memory import Memory
from .structs import record_dtype
from .trees import walk_xarrays

__all__ = ("block_areas",)


def block_areas(prog: Program, memory: Memory) -> Tuple[U64Array, Tuple[Problem, ...]]:
    """
    Find the areas that are divided, where no flag of theirs says so (before 6.3).

    :return: Addresses of ``struct vmap_area``, and what was damaged.
    """
    head = prog["vmap_blocks"].xa_head.value_()
    node = record_dtype(prog, "struct xa_node", {"slots": "slots"})
    blocks, _, problems = walk_xarrays(memory, np.array([head], np.uint64), node)
    block = record_dtype(prog, "struct vmap_block", {"va": "va"})
    records, ok = memory.records(blocks, block)
    lost: List[Problem] = [
        Problem("unreadable", f"vmap_block {at:#x}", "its area counts as undivided")
        for at in blocks[~ok].tolist()
    ]
    return records["va"][ok], (*problems, *lost)
