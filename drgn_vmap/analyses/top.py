# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Who holds vmalloc space
-----------------------

Sums over busy areas by what they have in common, and compares the pages of all
with the kernel's own counter.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from .._numpy import Array, U64Array, np
from ..model.areas import ProblemKind, Snapshot, State, vm_flag
from ..model.sums import Growth, PageCounter, Reconciliation, Sum, Top
from .kinds import kind_masks
from .owners import owner_key
from .select import callers_like

__all__ = ("GROUPINGS", "growth", "reconcile", "sum_areas")

_NO_CALLER = "(no caller)"
_NO_KIND = "(no kind)"
_NO_PAGES = "(no pages)"
_UNKNOWN_NODE = "(unknown node)"
_KERNEL = "(kernel)"


class _Sums(NamedTuple):
    """Sums as columns."""

    keys: List[str]
    areas: Array
    bytes: U64Array
    pages: U64Array

    def rows(self, at: Array) -> List[Sum]:
        """Return some of them."""
        keys = [self.keys[one] for one in at.tolist()]
        columns = [column[at].tolist() for column in self[1:]]
        return [*map(Sum, keys, *columns)]


def sum_areas(
    snapshot: Snapshot,
    by: str,
    caller: Optional[str] = None,
    limit: Optional[int] = None,
) -> Top:
    """
    Sum up the busy areas.

    :param by: One of GROUPINGS. By ``node``, which is a NUMA node, an area counts
        for each node that it has pages on, with the bytes of these pages.
    :param caller: Glob for the caller's symbol, or for its whole text.
    :param limit: How many of the largest sums are wanted, if not all.
    """
    busy = snapshot.areas.state == State.BUSY
    if caller is not None:
        busy &= np.isin(snapshot.areas.caller, callers_like(snapshot, caller))
    rows = np.flatnonzero(busy)
    [total] = _sums(snapshot, rows, np.zeros(len(rows), np.intp), ["total"]).rows(
        np.zeros(1, np.intp)
    )
    sums = _by_node(snapshot, rows) if by == "node" else _by_key(snapshot, rows, by)
    largest = _largest(sums, limit)
    return Top(
        by=by,
        rows=largest,
        total=total,
        more=int(np.count_nonzero(sums.areas)) - len(largest),
        more_bytes=int(sums.bytes.sum()) - sum(row.bytes for row in largest),
        left_out=sum(
            problem.what == ProblemKind.NOT_UNDERSTOOD for problem in snapshot.problems
        ),
    )


def _largest(sums: _Sums, limit: Optional[int]) -> Tuple[Sum, ...]:
    """Return the largest of them first, and of equal ones in the order of their keys."""
    some = np.flatnonzero(sums.areas)
    if limit is not None and limit < len(some):
        least = np.partition(sums.bytes[some], -limit)[-limit]
        some = some[sums.bytes[some] >= least]
    found = sums.rows(some)
    found.sort(key=lambda row: (-row.bytes, row.key))
    return tuple(found[:limit])


def reconcile(
    snapshot: Snapshot, counter: Optional[PageCounter], count_addresses: bool = False
) -> Reconciliation:
    """
    Compare the pages of areas with the kernel's own count.

    It counts what vmalloc() allocated, not pages that vmap() was given to keep.

    :param count_addresses: The counter may be of a kernel that counted addresses.
    """
    areas = snapshot.areas
    counted = areas.flags & vm_flag("VM_ALLOC") != 0
    counted &= areas.flags & vm_flag("VM_MAP_PUT_PAGES") == 0
    if counter and counter.uncounted_vm:
        counted &= areas.vm != np.uint64(counter.uncounted_vm)
    summed = int(areas.nr_pages[counted].sum())
    if not count_addresses:
        return Reconciliation(summed, counter)
    busy = areas.state == State.BUSY
    addresses = int((areas.end - areas.start)[busy].sum())
    return Reconciliation(summed, counter, addresses // snapshot.kernel.page_size)


def growth(first: Top, now: Top) -> Growth:
    """
    Return what differs between two moments, of which all rows are there.

    :param first: Of the earlier one.
    """
    before = {row.key: row for row in first.rows}
    after = {row.key: row for row in now.rows}
    rows = [
        _difference(key, before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
    ]
    changed = [row for row in rows if row.areas or row.bytes or row.pages]
    changed.sort(key=lambda row: (-row.bytes, row.key))
    total = _difference("total", first.total, now.total)
    return Growth(now.by, tuple(changed), total)


def _difference(key: str, old: Optional[Sum], new: Optional[Sum]) -> Sum:
    old, new = old or Sum(key, 0, 0, 0), new or Sum(key, 0, 0, 0)
    return Sum(key, new.areas - old.areas, new.bytes - old.bytes, new.pages - old.pages)


def _by_key(snapshot: Snapshot, rows: Array, by: str) -> _Sums:
    group, keys = _GROUPS[by](snapshot, rows)
    return _sums(snapshot, rows, group, keys)


def _sums(snapshot: Snapshot, rows: Array, group: Array, keys: List[str]) -> _Sums:
    """Sum up rows by their group, an index into ``keys``."""
    areas = snapshot.areas
    count = np.bincount(group, minlength=len(keys))
    size = np.zeros(len(keys), np.uint64)
    pages = np.zeros(len(keys), np.uint64)
    np.add.at(size, group, areas.end[rows] - areas.start[rows])
    np.add.at(pages, group, areas.nr_pages[rows])
    return _Sums(keys, count, size, pages)


def _by_node(snapshot: Snapshot, rows: Array) -> _Sums:
    kernel, areas = snapshot.kernel, snapshot.areas
    # Without CONFIG_NUMA all memory is node 0.
    nodes = kernel.numa_nodes or (0,)
    pages = areas.numa_pages[rows]
    if not kernel.numa_nodes:
        pages = areas.nr_pages[rows].reshape(-1, 1)
    without = rows[pages.sum(axis=1) == 0]
    lost = (areas.nr_pages[without] != 0).astype(np.intp)
    others = _sums(snapshot, without, lost, [_NO_PAGES, _UNKNOWN_NODE])
    held = np.concatenate((pages.sum(axis=0, dtype=np.uint64), others.pages))
    size = held * np.uint64(kernel.page_size)
    size[len(nodes)] = others.bytes[0]
    return _Sums(
        keys=[*map(str, nodes), *others.keys],
        areas=np.concatenate((np.count_nonzero(pages, axis=0), others.areas)),
        bytes=size,
        pages=held,
    )


def _callers(snapshot: Snapshot, rows: Array) -> Tuple[Array, List[str]]:
    """Group by the text of %pS; what vm_map_ram() made has none."""
    address, group = _distinct(snapshot.areas.caller[rows])
    texts = [snapshot.callers.get(a, _NO_CALLER) for a in address.tolist()]
    masks = kind_masks(snapshot)
    for kind in ("vm_map_ram", "vmap_block"):
        group[masks[kind][rows]] = len(texts)
        texts.append(kind)
    return group, texts


def _modules(snapshot: Snapshot, rows: Array) -> Tuple[Array, List[str]]:
    """Group by the module that %pS names behind the symbol."""
    group, callers = _callers(snapshot, rows)
    return _regroup(group, [_module(caller) for caller in callers])


def _module(caller: str) -> str:
    """Return the module of a caller; what has no symbol stays as it is."""
    named = re.search(r" \[(.+)\]$", caller)
    if named:
        return named[1]
    return _KERNEL if "+" in caller else caller


def _kinds(snapshot: Snapshot, rows: Array) -> Tuple[Array, List[str]]:
    """Group by kind; areas of several kinds are a group of their own."""
    masks = kind_masks(snapshot)
    bits = sum(
        mask[rows].astype(np.uint64) << np.uint64(at)
        for at, mask in enumerate(masks.values())
    )
    found, group = _distinct(np.asarray(bits, np.uint64))
    keys = [
        " ".join(kind for at, kind in enumerate(masks) if bit >> at & 1) or _NO_KIND
        for bit in found.tolist()
    ]
    return group, keys


def _distinct(values: U64Array) -> Tuple[U64Array, Array]:
    """Return the distinct values, and for each value which of them it is."""
    found, group = np.unique(values, return_inverse=True)
    return found, group


def _regroup(group: Array, keys: List[str]) -> Tuple[Array, List[str]]:
    """Make groups of equal keys one."""
    index: Dict[str, int] = {}
    place = [index.setdefault(key, len(index)) for key in keys]
    return np.array(place, np.intp)[group], list(index)


def _owners(snapshot: Snapshot, rows: Array) -> Tuple[Array, List[str]]:
    """Group by owner; tasks of the same name are one, as are chunks of per-CPU memory."""
    found, group = _distinct(snapshot.areas.owners[rows])
    keys = [owner_key(snapshot.owners[one]) for one in found.tolist()]
    return _regroup(group, keys)


_GROUPS = {
    "caller": _callers,
    "module": _modules,
    "kind": _kinds,
    "owner": _owners,
}
GROUPINGS = (*_GROUPS, "node")
