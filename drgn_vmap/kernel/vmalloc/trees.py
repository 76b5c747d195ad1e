# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Trees
-----

Walks red-black trees (``struct rb_root``, include/linux/rbtree.h) level by
level, so that a whole level is read at once, and xarrays (``struct xarray``,
include/linux/xarray.h) in the same way, radix trees as well. Both walks end on any input: a node is
taken once, and the depth of a healthy tree of the largest size is the limit.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

from ..._numpy import Array, Record, U64Array, np
from ...errors import Fault
from ...model.areas import Problem, ProblemKind
from ..memory.bulk import Memory
from ..types.structs import join_records

__all__ = (
    "RADIX_TREE",
    "XARRAY",
    "IndexTree",
    "TreeNodes",
    "join_nodes",
    "read_rb_roots",
    "read_rb_trees",
    "read_xarrays",
    "search_rb_trees",
    "walk_rb_trees",
)

# A red-black tree of n nodes is at most 2 log2(n + 1) deep; 64 levels are more
# than any tree that fits into memory has.
_MAX_DEPTH = 64
_RB_COLOR = np.uint64(3)

_PAIRS_AT_ONCE = 1 << 17
"""Keys times trees that are searched in one go, which bounds the memory it takes."""

_XA_INTERNAL_MASK = np.uint64(3)
_XA_FIRST_NODE = np.uint64(4096)
"""Smaller numbers stand for a sibling or retry entry (xa_is_node())."""


@dataclass(frozen=True)
class IndexTree:
    """A form of trees from indices to pointers."""

    node: str
    """C type of its nodes."""
    internal: "np.uint64"
    """The two lowest bits of an entry that points to one."""


XARRAY = IndexTree("struct xa_node", np.uint64(2))
# Until Linux kernel commit 3159f943aafd ("xarray: Replace exceptional entries") (in
# v4.20), these bits were swapped.
RADIX_TREE = IndexTree("struct radix_tree_node", np.uint64(1))


_Nodes = Tuple[U64Array, Array, Array]
"""Addresses of nodes, their records, and the index of the tree of each."""


@dataclass(frozen=True)
class TreeNodes:
    """
    The structs that hold the nodes of some trees, tree by tree, each by ascending
    ``va_start``.
    """

    address: U64Array
    records: Array
    root: Array
    """Index of the tree that a node belongs to."""
    problems: Tuple[Problem, ...]


def read_rb_roots(memory: Memory, heads: U64Array, dtype: Record) -> U64Array:
    """
    Read the ``rb_root.rb_node`` of some trees.

    :param heads: Address of each ``struct rb_root``.
    :param dtype: Of the structs that hold the trees' nodes.
    :raises Fault: if one cannot be read.
    """
    roots, ok = memory.records(heads, dtype["rb_left"])
    for head in heads[~ok].tolist():
        raise Fault(f"rb_root at {head:#x}")
    return roots


def read_rb_trees(
    memory: Memory, heads: U64Array, dtype: Record, link_offset: int, times: int
) -> TreeNodes:
    """
    Read all nodes of some red-black trees of ``struct vmap_area``.

    While anything is odd, they are walked again. Of what only earlier walks met, all
    that still hangs in one of the trees is added: a node that is moved about takes
    those below it out of sight.

    :param heads: Address of each ``struct rb_root``.
    :param times: How often to walk at most; more than once on a live kernel.
    :raises Fault: if a root cannot be read.
    """
    met = np.empty(0, np.uint64)
    for tries_left in reversed(range(times)):
        roots = read_rb_roots(memory, heads, dtype)
        tree = walk_rb_trees(memory, roots, dtype, link_offset)
        if not (tree.problems and tries_left):
            break
        met = np.union1d(met, tree.address)
        memory.refresh()
    if not tree.problems:
        return tree
    parts = [(tree.address, tree.records, tree.root)]
    lost = np.setdiff1d(met, tree.address)
    for tries_left in reversed(range(times)):
        roots = read_rb_roots(memory, heads, dtype)
        root = _climb(memory, lost, dtype, link_offset, roots)
        there = root >= 0
        records, _ = memory.records(lost[there], dtype)
        parts.append((lost[there], records, root[there]))
        lost = lost[~there]
        if not (len(lost) and tries_left):
            break
        memory.refresh()
    return join_nodes(parts, dtype, tree.problems)


def _climb(
    memory: Memory,
    addresses: U64Array,
    dtype: Record,
    link_offset: int,
    roots: U64Array,
) -> Array:
    """Return the index of the tree that each struct hangs in, -1 if in none."""
    tree = np.full(len(addresses), -1)
    links = addresses + np.uint64(link_offset)
    row = np.arange(len(addresses))
    order = np.argsort(roots)
    for _ in range(_MAX_DEPTH):
        near = np.searchsorted(roots[order[:-1]], links[row])
        arrived = roots[order[near]] == links[row]
        tree[row[arrived]] = order[near[arrived]]
        row = row[~arrived]
        records, ok = memory.records(links[row] - np.uint64(link_offset), dtype)
        parents = records["rb_parent"] & ~_RB_COLOR
        ok &= parents != 0
        row = row[ok]
        links[row] = parents[ok]
    return tree


def walk_rb_trees(
    memory: Memory, roots: U64Array, dtype: Record, link_offset: int
) -> TreeNodes:
    """
    Walk some red-black trees of ``struct vmap_area`` once, from their roots down. Links
    that are damaged are told and not followed.

    :param roots: The ``rb_root.rb_node`` of each tree.
    :param dtype: Of the structs, with ``va_start`` and the links of their ``rb_node``.
    :param link_offset: Offset of the ``struct rb_node`` in the struct.
    """
    problems: List[Problem] = []
    tree = np.flatnonzero(roots != 0)
    links = roots[tree]
    parents = np.zeros(len(links), np.uint64)
    levels: List[_Nodes] = []
    tangled = False
    for _ in range(_MAX_DEPTH):
        if not len(links):
            break
        address = links - np.uint64(link_offset)
        records, ok = memory.records(address, dtype)
        misplaced = ok & ((records["rb_parent"] & ~_RB_COLOR) != parents)
        # Nodes whose parent links agree form a tree. Only others can close a circle
        # or lead to a branch twice; from the first on, no node is taken again.
        again = np.zeros(len(links), bool)
        tangled |= bool(misplaced.any())
        if tangled:
            seen = [level for level, _, _ in levels]
            again = np.isin(address, np.concatenate([address[:0], *seen]))
        problems += _link_problems(links, parents, ok, misplaced, again)
        # Mostly that is all of them, and then nothing need be copied.
        keep = np.flatnonzero(ok & ~again)
        if len(keep) < len(links):
            links, tree, records = links[keep], tree[keep], records.take(keep)
            address = address[keep]
        levels.append((address, records, tree))
        parents = np.concatenate((links, links))
        tree = np.concatenate((tree, tree))
        links = np.concatenate((records["rb_left"], records["rb_right"]))
        order = np.flatnonzero(links)
        order = order[np.argsort(links[order], kind="stable")]
        links, parents, tree = links[order], parents[order], tree[order]
        shared = np.flatnonzero(links[1:] == links[:-1]) + 1
        if len(shared):
            problems += [
                Problem(
                    ProblemKind.CORRUPT,
                    f"rb_node {link:#x}",
                    "is the child of several nodes",
                )
                for link in np.unique(links[shared]).tolist()
            ]
            once = np.ones(len(links), bool)
            once[shared] = False
            links, parents, tree = links[once], parents[once], tree[once]
    else:
        problems.append(
            Problem(
                ProblemKind.CORRUPT,
                "red-black tree",
                f"deeper than {_MAX_DEPTH} levels",
            )
        )
    return join_nodes(levels, dtype, problems)


def _link_problems(
    links: U64Array,
    parents: U64Array,
    ok: Array,
    misplaced: Array,
    again: Array,
) -> List[Problem]:
    """Name each link of a level that leads nowhere or to the wrong place."""
    problems = []
    for at in np.flatnonzero(~ok | misplaced).tolist():
        where = f"rb_node {links[at]:#x}, child of {parents[at]:#x}"
        if not ok[at]:
            problems.append(
                Problem(ProblemKind.UNREADABLE, where, "the nodes below it are missing")
            )
        elif again[at]:
            problems.append(
                Problem(ProblemKind.CORRUPT, where, "was seen before in the tree")
            )
        else:
            problems.append(Problem(ProblemKind.CORRUPT, where, "names another parent"))
    return problems


def join_nodes(
    parts: List[_Nodes], dtype: Record, problems: Sequence[Problem]
) -> TreeNodes:
    """
    Put the nodes of all parts in order.

    :param parts: Emptied, as their memory is needed.
    :param problems: If there are any, nodes are looked through for those seen twice.
    """
    none = np.empty(0, np.uint64)
    address = np.concatenate([none, *(nodes for nodes, _, _ in parts)])
    tree = np.concatenate([none.astype(np.intp), *(trees for _, _, trees in parts)])
    records = join_records([np.empty(0, dtype), *(found for _, found, _ in parts)])
    parts.clear()
    order = np.lexsort((records["va_start"], tree))
    if problems:
        once = np.zeros(len(address), bool)
        once[np.unique(address, return_index=True)[1]] = True
        order = order[once[order]]
    records = records.take(order)
    return TreeNodes(address[order], records, tree[order], tuple(problems))


def search_rb_trees(
    memory: Memory, roots: U64Array, dtype: Record, link_offset: int, keys: U64Array
) -> Tuple[U64Array, Array, Tuple[Problem, ...]]:
    """
    Descend red-black trees of ``struct vmap_area`` to some addresses at once.

    :param roots: The ``rb_root.rb_node`` of each tree.
    :param dtype: Of the structs, with ``va_start`` and the links of their ``rb_node``.
    :return: In each tree and for each key, the struct that begins last at or before
        it and the one that begins first behind it, if there are such: addresses, each
        once, the index of the tree of each, and what was damaged.
    """
    at_once = max(1, _PAIRS_AT_ONCE // max(len(roots), 1))
    parts = [
        _search(memory, roots, dtype, link_offset, keys[at : at + at_once])
        for at in range(0, len(keys), at_once)
    ]
    found: List[Array] = [links for links, _, _ in parts]
    tree: List[Array] = [tree for _, tree, _ in parts]
    none = np.empty(0, np.uint64)
    links, first = np.unique(np.concatenate([none, *found]), return_index=True)
    trees = np.concatenate([none.astype(np.intp), *tree])[first]
    problems = dict.fromkeys(one for _, _, some in parts for one in some)
    return links - np.uint64(link_offset), trees, tuple(problems)


def _search(
    memory: Memory, roots: U64Array, dtype: Record, link_offset: int, keys: U64Array
) -> Tuple[U64Array, Array, List[Problem]]:
    """
    Descend to so many keys as are searched in one go.

    :return: As :func:`search_rb_trees`, but for addresses, which are those of the
        ``struct rb_node``.
    """
    problems: List[Problem] = []
    tree = np.repeat(np.arange(len(roots)), len(keys))
    links, wanted = roots[tree], np.tile(keys, len(roots))
    parents = np.zeros(len(links), np.uint64)
    below, above = np.zeros_like(links), np.zeros_like(links)
    for _ in range(_MAX_DEPTH):
        row = np.flatnonzero(links)
        if not len(row):
            break
        unique, inverse = np.unique(links[row], return_inverse=True)
        records, ok = memory.records(unique - np.uint64(link_offset), dtype)
        records, ok = records[inverse], ok[inverse]
        wrong = (records["rb_parent"] & ~_RB_COLOR) != parents[row]
        problems += _link_problems(
            links[row], parents[row], ok, ok & wrong, np.zeros(len(row), bool)
        )
        behind = records["va_start"] > wanted[row]
        above[row[ok & behind]] = links[row[ok & behind]]
        below[row[ok & ~behind]] = links[row[ok & ~behind]]
        parents[row] = links[row]
        following = np.where(behind, records["rb_left"], records["rb_right"])
        links[row] = np.where(ok, following, 0)
    else:
        problems.append(
            Problem(
                ProblemKind.CORRUPT,
                "red-black tree",
                f"deeper than {_MAX_DEPTH} levels",
            )
        )
    found, first = np.unique(np.concatenate((below, above)), return_index=True)
    tree = np.concatenate((tree, tree))[first]
    there = found != 0
    return found[there], tree[there], problems


def read_xarrays(
    memory: Memory,
    heads: U64Array,
    dtype: Record,
    times: int,
    form: IndexTree = XARRAY,
) -> Tuple[U64Array, Array, Tuple[Problem, ...]]:
    """
    Read all entries of some xarrays that are pointers.

    A live kernel gives up the topmost ``struct xa_node`` of an xarray that no longer
    needs it, and empties it. So xarrays whose heads are others in the end are read again.

    :param heads: Address of the ``xa_head`` of each ``struct xarray``.
    :param dtype: Of ``struct xa_node``, with the field ``slots``.
    :param times: How often to read at most; more than once on a live kernel.
    :param form: Whether they are radix trees instead.
    :return: The pointers, the index of the xarray of each, and what was damaged.
    """
    entries, ok = _xa_heads(memory, heads, dtype)
    for tries_left in reversed(range(times)):
        pointers, owners, problems = _walk_xarrays(memory, entries, dtype, form)
        before, (entries, ok) = entries, _xa_heads(memory, heads, dtype)
        changed = np.flatnonzero(entries != before)
        if not (len(changed) and tries_left):
            break
        memory.forget()
    moved = tuple(
        Problem(
            ProblemKind.CORRUPT,
            f"xa_head {heads[at]:#x}",
            f"changed from {before[at]:#x} to {entries[at]:#x}, entries may be missing",
        )
        for at in changed.tolist()
    )
    lost = tuple(
        Problem(ProblemKind.UNREADABLE, f"xa_head {at:#x}", "its entries are missing")
        for at in heads[~ok].tolist()
    )
    return pointers, owners, problems + moved + lost


def _xa_heads(memory: Memory, heads: U64Array, dtype: Record) -> Tuple[U64Array, Array]:
    """
    Read the ``xa_head`` of some xarrays as they are now.

    :return: What they hold, zero for those that cannot be read, and which could be.
    """
    entries = np.zeros(len(heads), np.uint64)
    ok = np.zeros(len(heads), bool)
    for at, head in enumerate(heads.tolist()):
        try:
            entries[at] = memory.array(head, 1, dtype["slots"].base)[0]
            ok[at] = True
        except Fault:
            pass
    return entries, ok


def _walk_xarrays(
    memory: Memory, entries: U64Array, dtype: Record, form: IndexTree
) -> Tuple[U64Array, Array, Tuple[Problem, ...]]:
    """
    Read all entries of some xarrays that are pointers.

    :param entries: What the ``xa_head`` of each held.
    :return: The pointers, the index of the xarray of each, and what was damaged.
    """
    problems: List[Problem] = []
    tree = np.arange(len(entries))
    pointers: List[U64Array] = [np.empty(0, np.uint64)]
    owners: List[Array] = [np.empty(0, np.intp)]
    # Each level of nodes resolves at least four bits of a 64-bit index.
    for _ in range(16):
        internal = (entries & _XA_INTERNAL_MASK) == form.internal
        plain = (entries & _XA_INTERNAL_MASK == 0) & (entries != 0)
        pointers.append(entries[plain])
        owners.append(tree[plain])
        node = internal & (entries > _XA_FIRST_NODE)
        address, first = np.unique(entries[node] - form.internal, return_index=True)
        tree = tree[node][first]
        if not len(address):
            break
        records, ok = memory.records(address, dtype)
        problems += [
            Problem(
                ProblemKind.UNREADABLE, f"xa_node {at:#x}", "its entries are missing"
            )
            for at in address[~ok].tolist()
        ]
        slots = records["slots"][ok]
        entries, tree = slots.reshape(-1), np.repeat(tree[ok], slots.shape[1])
    else:
        problems.append(Problem(ProblemKind.CORRUPT, "xarray", "nodes form a circle"))
    return np.concatenate(pointers), np.concatenate(owners), tuple(problems)
