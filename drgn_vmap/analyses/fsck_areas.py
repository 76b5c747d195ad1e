# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Consistency of areas
--------------------

What holds of areas (mm/vmalloc.c): of the lists and trees that have them, of the
addresses they share out, of their flags, pages and sums.
"""

import re
from typing import Iterable, Iterator, List, Sequence, Tuple

from .._numpy import Array, U64Array, np
from ..model.areas import VMAP_BLOCK, VMAP_RAM, AreaTable, ProblemKind, State
from ..model.inspection import AreaTree, Failure, Inspection
from .outcome import CheckFunction, Looked, Outcome, Skip, failures_at
from .top import reconcile

__all__ = ("AREA_CHECKS",)

_MOVING = "while an area moves between lists"
_SETTING_UP = "while an area is being set up or torn down"
_COUNTING = "while areas are being made or freed"
_TAKEN_OFF = "older kernels take off pages that vmap() was given to keep"

_NO_TREES = Skip("areas are read by their lists alone")
_HIDDEN = "a running kernel may keep its names to itself (kernel.kptr_restrict)"

_FIRST_ADDRESS = 1
"""Where the free space begins at boot; vmap_init_free_space()."""
_NODE_SHIFT = np.uint64(8)
_NODE_MASK = np.uint64(0xFF)
_MAX_DEPTH = 64


def _readable(found: Inspection) -> Outcome:
    """Count what the readers could make no sense of."""
    problems = dict.fromkeys((*found.snapshot.problems, *found.blocks.problems))
    failures = []
    for problem in problems:
        if problem.what == ProblemKind.UNSUPPORTED:
            continue
        address = re.search(r"0x[0-9a-f]+", problem.where)
        text = f"{problem.what}: {problem.where}: {problem.detail}"
        hidden = found.snapshot.kernel.live and problem.what == ProblemKind.NAMELESS
        failures.append(
            Failure(
                address=int(address[0], 16) if address else 0,
                text=text,
                excuse=_HIDDEN if hidden else "",
            )
        )
    return Looked(len(found.snapshot.areas) + len(found.blocks.table), failures)


def _lists(found: Inspection) -> Outcome:
    if not found.trees:
        return _NO_TREES
    failures: List[Failure] = []
    for tree in found.trees:
        failures += _list_failures(tree)
    return Looked(sum(len(tree.address) for tree in found.trees), failures)


def _list_failures(tree: AreaTree) -> Iterator[Failure]:
    """Compare the list's links with what the tree says follows on each area."""
    head = np.array([tree.head], np.uint64)
    following = np.concatenate((tree.link[1:], head))
    before = np.concatenate((head, tree.link[:-1]))
    for links, wanted, word in (
        (tree.next, following, "next"),
        (tree.prev, before, "previous"),
    ):
        yield from failures_at(
            tree.address,
            links != wanted,
            lambda row: f"vmap_area at {tree.start[row]:#x}: list of {tree.name} names "
            f"{links[row]:#x} as {word}, by the tree it is {wanted[row]:#x}",
        )
    ends = (tree.link[0], tree.link[-1]) if len(tree.link) else (tree.head, tree.head)
    for link, wanted_end in zip((tree.first, tree.last), ends):
        if link != wanted_end:
            text = f"list of {tree.name} starts or ends with {link:#x}, "
            yield Failure(tree.head, text + f"by the tree with {wanted_end:#x}")


def _trees(found: Inspection) -> Outcome:
    if not found.trees:
        return _NO_TREES
    failures: List[Failure] = []
    for tree in found.trees:
        failures += failures_at(
            tree.address,
            _misplaced(tree),
            lambda row: f"vmap_area at {tree.start[row]:#x} is in the wrong place of "
            f"the tree of {tree.name}",
        )
    return Looked(sum(len(tree.address) for tree in found.trees), failures)


def _rows_of(tree: AreaTree, links: U64Array) -> Array:
    """Return the row of each rb_node, -1 for none that is known."""
    order = np.argsort(tree.rb, kind="stable")
    at = np.minimum(np.searchsorted(tree.rb[order], links), len(order) - 1)
    return np.where(tree.rb[order][at] == links, order[at], -1)


def _misplaced(tree: AreaTree) -> Array:
    """Return areas that are outside of the bounds set above them, or there twice."""
    wrong = np.zeros(len(tree.address), bool)
    seen = np.zeros(len(tree.address), bool)
    if not len(tree.address):
        return wrong
    left, right = _rows_of(tree, tree.left), _rows_of(tree, tree.right)
    rows = _rows_of(tree, np.array([tree.root], np.uint64))
    low = np.zeros(1, np.uint64)
    high = np.full(1, np.iinfo(np.uint64).max)
    for _ in range(_MAX_DEPTH):
        known = rows >= 0
        rows, low, high = rows[known], low[known], high[known]
        # Damaged links may lead to an area in many ways, of which one is followed.
        first = np.zeros(len(rows), bool)
        first[np.unique(rows, return_index=True)[1]] = True
        first &= ~seen[rows]
        wrong[rows[~first]] = True
        rows, low, high = rows[first], low[first], high[first]
        seen[rows] = True
        start, end = tree.start[rows], tree.end[rows]
        wrong[rows] |= (start < low) | (end > high)
        rows = np.concatenate((left[rows], right[rows]))
        low = np.concatenate((low, end))
        high = np.concatenate((start, high))
    return wrong


def _largest(found: Inspection) -> Outcome:
    tree = next((t for t in found.trees if t.largest is not None), None)
    if tree is None or tree.largest is None or not len(tree.address):
        return Skip("no tree of free areas")
    wanted = tree.end - tree.start
    for link in (tree.left, tree.right):
        row = _rows_of(tree, link)
        below = np.where(row >= 0, tree.largest[row], np.uint64(0))
        wanted = np.maximum(wanted, below)
    largest = tree.largest
    failures = failures_at(
        tree.address,
        largest != wanted,
        lambda row: f"free vmap_area at {tree.start[row]:#x}: subtree_max_size is "
        f"{largest[row]:#x}, below it {wanted[row]:#x}",
    )
    return Looked(len(tree.address), list(failures))


def _overlaps(found: Inspection) -> Outcome:
    areas = found.snapshot.areas
    # A range on its way between lists may be seen in both; two in use never overlap.
    failures = list(_overlapping(areas.take(areas.state == State.BUSY), ""))
    known = {failure.address for failure in failures}
    moving = _overlapping(areas, _MOVING)
    failures += [failure for failure in moving if failure.address not in known]
    return Looked(len(areas), failures)


def _overlapping(areas: AreaTable, window: str) -> Iterable[Failure]:
    """Yield a failure for each area that begins before those before it end."""
    areas = areas.take(np.argsort(areas.start, kind="stable"))
    reached = np.maximum.accumulate(areas.end)
    return failures_at(
        areas.address[1:],
        areas.start[1:] < reached[:-1],
        lambda row: f"vmap_area at {areas.start[row + 1]:#x} begins before "
        f"{reached[row]:#x}, where the areas before it end",
        window,
    )


def _gaps(found: Inspection) -> Outcome:
    areas = found.snapshot.areas
    if not areas.address[areas.state == State.FREE].any():
        return Skip("this kernel keeps no record of what is free")
    _, start, end = _by_start(found)
    last = np.iinfo(np.uint64).max
    if found.snapshot.kernel.word_size == 4:
        last = np.iinfo(np.uint32).max
    begins = np.concatenate((np.array([_FIRST_ADDRESS], np.uint64), end))
    begins = np.maximum.accumulate(begins)
    ends = np.concatenate((start, np.array([last], np.uint64)))
    failures = failures_at(
        begins,
        begins < ends,
        lambda row: f"{begins[row]:#x}-{ends[row]:#x} belongs to no area",
        _MOVING,
    )
    return Looked(len(begins), list(failures))


def _by_start(found: Inspection) -> Tuple[U64Array, U64Array, U64Array]:
    areas = found.snapshot.areas
    order = np.argsort(areas.start, kind="stable")
    return areas.address[order], areas.start[order], areas.end[order]


def _flags(found: Inspection) -> Outcome:
    kernel, areas = found.snapshot.kernel, found.snapshot.areas
    if not kernel.has_va_flags:
        return Skip("areas of this kernel have no flags of vm_map_ram()")
    busy = areas.state == State.BUSY
    marks = areas.va_flags & np.uint64(VMAP_RAM | VMAP_BLOCK)
    has_vm = areas.vm != 0

    def text(row: int) -> str:
        vm = "a vm" if has_vm[row] else "no vm"
        flags = int(areas.va_flags[row])
        return f"vmap_area at {areas.start[row]:#x} has {vm} and flags {flags:#x}"

    alone = busy & (marks == VMAP_BLOCK)
    failures = [
        *failures_at(areas.address, alone, text),
        *failures_at(areas.address, busy & has_vm & (marks != 0) & ~alone, text),
        *failures_at(
            areas.address,
            busy & ~has_vm & (marks == 0),
            text,
            "" if found.vm_set_early else _SETTING_UP,
        ),
    ]
    return Looked(int(busy.sum()), failures)


def _node_ids(found: Inspection) -> Outcome:
    if not found.snapshot.kernel.has_nodes:
        return Skip("this kernel has no nodes")
    areas = found.snapshot.areas
    used = (areas.state == State.BUSY) | (areas.state == State.LAZY)
    id_ = (areas.va_flags >> _NODE_SHIFT) & _NODE_MASK
    failures = failures_at(
        areas.address,
        used & (id_ > np.uint64(found.nr_nodes)),
        lambda row: f"vmap_area at {areas.start[row]:#x} names node {id_[row] - 1} of "
        f"{found.nr_nodes}",
    )
    return Looked(int(used.sum()), list(failures))


def _node_of_address(found: Inspection) -> Outcome:
    if found.zone_size is None:
        return Skip("this kernel has one node, or none")
    areas = found.snapshot.areas
    busy = areas.state == State.BUSY
    zone = areas.start // np.uint64(max(found.zone_size, 1))
    node = zone % np.uint64(found.nr_nodes)
    failures = failures_at(
        areas.address,
        busy & (node != areas.vmap_node.astype(np.uint64)),
        lambda row: f"vmap_area at {areas.start[row]:#x} is in node {areas.vmap_node[row]}, "
        f"its address belongs to {node[row]}",
    )
    return Looked(int(busy.sum()), list(failures))


def _pools(found: Inspection) -> Outcome:
    if found.pools is None:
        return Skip("this kernel has no pools")
    areas = found.snapshot.areas.take(found.snapshot.areas.state == State.POOL)
    page = np.uint64(found.snapshot.kernel.page_size)
    bucket = ((areas.end - areas.start - np.uint64(1)) // page).astype(np.intp)
    counts: Array = np.zeros(found.pools.shape, np.uint64)
    fits = (bucket < counts.shape[1]) & (areas.vmap_node < counts.shape[0])
    np.add.at(counts, (areas.vmap_node[fits], bucket[fits]), np.uint64(1))
    failures = [
        Failure(
            0,
            f"pool of {bucket + 1} pages of node {node} has {counts[node, bucket]} "
            f"areas, its len is {found.pools[node, bucket]}",
            _MOVING,
            constant=f"pool {bucket} of node {node} is off by "
            f"{int(found.pools[node, bucket]) - int(counts[node, bucket])}",
        )
        for node, bucket in np.argwhere(counts != found.pools).tolist()
    ]
    return Looked(counts.size, failures)


def _vm_sizes(found: Inspection) -> Outcome:
    areas = found.snapshot.areas
    size = areas.end - areas.start
    failures = failures_at(
        areas.vm,
        areas.vm_ok & (areas.vm_size != size),
        lambda row: f"vm_struct of {areas.start[row]:#x} says {areas.vm_size[row]} bytes, "
        f"its area has {size[row]}",
    )
    return Looked(int(areas.vm_ok.sum()), list(failures))


def _vm_pages(found: Inspection) -> Outcome:
    areas, pages = found.snapshot.areas, found.vm_pages
    if len(pages.known) and not pages.known.any():
        return Skip("where the page table leads is not known")
    vm = areas.vm[pages.row]
    start = areas.start[pages.row]

    def text(row: int) -> str:
        mapped = f"{pages.mapped[row]:#x} is mapped" if pages.mapped[row] else "nothing"
        return (
            f"vm_struct of {start[row]:#x}: page {pages.index[row]} is "
            f"{pages.page[row]:#x} at {pages.phys[row]:#x}, but the page table has "
            f"{mapped}"
        )

    failures = failures_at(vm, pages.known & (pages.phys != pages.mapped), text)
    return Looked(int(pages.known.sum()), list(failures))


def _lazy_counter(found: Inspection) -> Outcome:
    areas = found.snapshot.areas
    lazy = (areas.state == State.LAZY) | (areas.state == State.PURGING)
    size = int((areas.end[lazy] - areas.start[lazy]).sum())
    pages = size // found.snapshot.kernel.page_size
    failures = []
    if pages != found.lazy.counted:
        text = f"vmap_lazy_nr is {found.lazy.counted}, lazy areas have {pages} pages"
        # The counter goes on counting; what it is off by stays.
        constant = f"off by {found.lazy.counted - pages}"
        failures.append(Failure(0, text, _COUNTING, constant=constant))
    return Looked(int(lazy.sum()), failures)


def _page_counter(found: Inspection) -> Outcome:
    counter = found.counter
    if counter is None:
        return Skip("no counter of this kernel is known")
    compared = reconcile(found.snapshot, counter)
    failures = []
    if compared.difference_pages:
        text = (
            f"{counter.name} is {counter.pages} and {counter.pending_pages} pending, "
            f"areas have {compared.summed_pages} pages"
        )
        excuse = _TAKEN_OFF if compared.may_be_too_low else ""
        constant = f"off by {compared.difference_pages}"
        failures.append(Failure(0, text, _COUNTING, excuse, constant))
    return Looked(compared.summed_pages, failures)


AREA_CHECKS: Sequence[Tuple[str, str, CheckFunction]] = (
    ("readable", "everything can be read and makes sense", _readable),
    ("area-lists", "lists and trees have the same areas", _lists),
    ("area-trees", "trees are sorted by address", _trees),
    ("free-tree", "free areas know the largest below them", _largest),
    ("area-overlaps", "no address belongs to two areas", _overlaps),
    ("area-gaps", "each address belongs to an area", _gaps),
    ("area-flags", "flags and vm of areas agree", _flags),
    ("area-node-ids", "areas name nodes that exist", _node_ids),
    ("area-nodes", "areas are in the node of their address", _node_of_address),
    ("pools", "pools have as many areas as they count", _pools),
    ("vm-sizes", "vm_structs are as large as their areas", _vm_sizes),
    ("vm-pages", "pages of vm_structs are where the page table leads", _vm_pages),
    ("lazy-pages", "vmap_lazy_nr counts lazy areas", _lazy_counter),
    ("vmalloc-pages", "the kernel's count of pages is right", _page_counter),
)
