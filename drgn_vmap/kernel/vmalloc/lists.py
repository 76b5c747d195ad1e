# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Lists
-----

Follows ``struct list_head`` and ``struct llist_node`` chains. A chain cannot be
read in bulk, so these are for short lists and for cross-checks; a walk ends at
the first node that was seen before or cannot be read, and says so.
"""

from typing import List, Tuple

from ...errors import Fault
from ...model.areas import Problem, ProblemKind
from ..memory.bulk import Memory

__all__ = ("MAX_NODES", "walk_list", "walk_llist")

MAX_NODES = 4_000_000
"""More nodes than any list of a healthy kernel has."""

_MAX_LIVE_NODES = 1 << 16
"""
On a running kernel: a node that is freed and used again leads to whatever list it
is on then, and some are very long.
"""


def walk_list(
    memory: Memory, head: int, live: bool
) -> Tuple[List[int], Tuple[Problem, ...]]:
    """
    Follow the ``next`` pointers of a ``struct list_head`` ring.

    :param head: Address of the list's head.
    :param live: Whether the kernel runs.
    :return: Addresses of the nodes' ``struct list_head``, and what broke the walk.
    """
    return _chase(memory, head, head, live)


def walk_llist(
    memory: Memory, head: int, live: bool
) -> Tuple[List[int], Tuple[Problem, ...]]:
    """
    Follow a ``struct llist_head``.

    :param head: Address of the ``struct llist_head``.
    :param live: Whether the kernel runs.
    :return: Addresses of the ``struct llist_node``, newest first, and what broke
        the walk.
    """
    return _chase(memory, head, 0, live)


def _chase(
    memory: Memory, head: int, end: int, live: bool
) -> Tuple[List[int], Tuple[Problem, ...]]:
    nodes: List[int] = []
    seen = {head}
    at = head
    limit = _MAX_LIVE_NODES if live else MAX_NODES
    while len(nodes) < limit:
        try:
            following = memory.pointer(at)
        except Fault:
            detail = f"node {at:#x} cannot be read, the rest is missing"
            return nodes, (Problem(ProblemKind.UNREADABLE, f"list {head:#x}", detail),)
        if following == end:
            return nodes, ()
        if following in seen:
            detail = f"node {at:#x} leads back to {following:#x}"
            return nodes, (Problem(ProblemKind.CORRUPT, f"list {head:#x}", detail),)
        seen.add(following)
        nodes.append(following)
        at = following
    return nodes, (Problem(ProblemKind.CORRUPT, f"list {head:#x}", "has no end"),)
