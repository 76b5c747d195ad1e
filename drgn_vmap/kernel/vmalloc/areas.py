# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Areas
-----

Reads ``struct vmap_area`` (mm/vmalloc.c) in every state: busy areas from the
trees, lazily freed ones from where this kernel keeps them, and ranges that are
being purged, pooled for reuse, or free.
"""

from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from ..._numpy import Array, Record, U64Array, np
from ...errors import Fault, SymbolsError, VmapError
from ...model.areas import VM_LAZY_FREE, VM_VM_AREA, Problem, ProblemKind, State
from ..layout import Layout
from ..target import Target
from ..types.structs import array_length, join_records, need_offset, record_dtype
from .lists import walk_list, walk_llist
from .nodes import VmapNodes, read_nodes
from .racing import tries
from .trees import (
    TreeNodes,
    join_nodes,
    read_rb_roots,
    read_rb_trees,
    search_rb_trees,
)

__all__ = ("NO_NODE", "AreaRecords", "AreaReader")

_LOST = 0
"""Stands for an address that is lost: nothing can be read there."""
NO_NODE = -1
"""Stands for the node of an area on kernels without nodes."""


@dataclass(frozen=True)
class AreaRecords:
    """struct vmap_area records of one state, in the kernel's order."""

    state: State
    address: U64Array
    records: Array
    vmap_node: Array


class AreaReader:
    """
    Reads areas of one target, collecting what was damaged in ``problems``, or in
    ``lasting`` if reading it again does not help. Pages that it reads stay until somebody
    forgets them.

    :param layout: How areas are kept.
    :param find_lost: Looks through a vmcore for areas that nothing leads to
        (:mod:`.lost_areas`), by the heads of lists of those in use.
    """

    def __init__(
        self,
        target: Target,
        layout: Layout,
        find_lost: Callable[[List[int]], Tuple[U64Array, Array, int]],
    ) -> None:
        self._target = target
        self._find_lost = find_lost
        self._memory = target.memory
        self._layout = layout
        self.problems: List[Problem] = []
        self.lasting: List[Problem] = []
        self._nodes: Optional[VmapNodes] = None
        self._why_no_nodes: VmapError = Fault("all vmap_nodes")
        """Where there should be some."""
        self._mixed: Dict[State, AreaRecords] = {}
        self._lists_only = target.by_lists or layout.rb_offset is None
        if layout.vmap_node:
            self._read_nodes(layout.vmap_node)

    def busy(self) -> AreaRecords:
        """
        Read areas in use, node by node, each by ascending address. Of a damaged vmcore, also
        those that nothing leads to; they come last.
        """
        try:
            found = self._led_to()
        except (Fault, SymbolsError) as e:
            if not self._may_search():
                raise
            return self._add_lost(self._records(State.BUSY, [], []), e)
        # A damaged tree is mended from its list, if that is whole.
        return self._add_lost(found) if self.problems and self._may_search() else found

    def _led_to(self) -> AreaRecords:
        """Read areas in use that a tree or a list leads to."""
        self._need_types()
        if self._layout.has_old_flags:
            return self._of_mixed(State.BUSY)
        # Since Linux kernel commit d093602919ad ("mm: vmalloc: remove global
        # vmap_area_root rb-tree") (in v6.9), each node has a tree.
        if self._need_nodes():
            return self._from_trees(State.BUSY, *self._node_trees("busy"))
        return self._from_trees(State.BUSY, *self._global_tree("vmap_area"))

    def lazy(self) -> AreaRecords:
        """Read areas that were freed but may still be in some CPU's TLB."""
        self._need_types()
        if self._layout.has_old_flags:
            return self._of_mixed(State.LAZY)
        if self._need_nodes():
            return self._from_trees(State.LAZY, *self._node_trees("lazy"))
        # Since Linux kernel commit 96e2db456135 ("mm/vmalloc: rework the drain
        # logic") (in v5.11), they are in a tree and a list; before, in an llist.
        names = ("purge_vmap_area_root", "purge_vmap_area_list")
        if not any(map(self._target.values.address, names)):
            return self._from_llist()
        return self._from_trees(State.LAZY, *self._global_tree("purge_vmap_area"))

    def without(self, read: "Callable[[AreaReader], AreaRecords]") -> AreaRecords:
        """Read areas of a state beside the busy ones, or go without them and say so."""
        if self._layout.why_guessed:
            # It is said already that there are none but those in use.
            return self._records(State.LAZY, [], [])
        try:
            return read(self)
        except (Fault, SymbolsError) as e:
            why = e.why if isinstance(e, Fault) else _first_part(e)
            detail = f"{read.__name__} areas are missing: {why}"
            self.problems.append(Problem(ProblemKind.UNREADABLE, "vmap_area", detail))
            return self._records(State.LAZY, [], [])

    def purging(self) -> AreaRecords:
        """Read areas that a purge has taken out of the lazy ones."""
        self._need_types()
        nodes = self._need_nodes()
        if nodes is None:
            return self._records(State.PURGING, [], [])
        address, node = [], []
        # A node's purge_list is set up by its first purge only.
        for index, head, following in zip(
            nodes.index,
            self._members("purge_list"),
            nodes.records["purge_list"].tolist(),
        ):
            if following:
                found = self._list(head)
                address += found
                node += [index] * len(found)
        return self._records(State.PURGING, address, node)

    def pools(self) -> AreaRecords:
        """Read ranges that nodes keep for reuse, by node and size."""
        self._need_types()
        nodes = self._need_nodes()
        address: List[int] = []
        node: List[int] = []
        for at, index in enumerate(nodes.index.tolist() if nodes else []):
            assert nodes is not None
            found = self._pool(nodes, at)
            address += found
            node += [index] * len(found)
        return self._records(State.POOL, address, node)

    def free(self) -> AreaRecords:
        """Read ranges that belong to nobody, by ascending address."""
        self._need_types()
        if not self._has_free_list():
            return self._between(self.busy(), self.lazy(), self.purging(), self.pools())
        return self._from_trees(State.FREE, *self._global_tree("free_vmap_area"))

    def busy_around(self, addresses: U64Array) -> AreaRecords:
        """
        Read only the areas in use that hold these addresses, and their neighbours.

        If a tree is damaged on the way, all areas in use are read.

        :param addresses: In ascending order.
        """
        if self._layout.has_old_flags or self._layout.vmap_node and not self._nodes:
            return self.busy()
        if self._nodes:
            roots, _ = self._node_trees("busy")
        else:
            roots, _ = self._global_tree("vmap_area")
        found = self._around(State.BUSY, roots, addresses)
        return self.busy() if found is None else found

    def free_around(self, addresses: U64Array) -> AreaRecords:
        """Read only the free ranges that hold these addresses, and their neighbours."""
        if not self._has_free_list():
            return self.free()
        roots, _ = self._global_tree("free_vmap_area")
        found = self._around(State.FREE, roots, addresses)
        return self.free() if found is None else found

    def _around(
        self, state: State, heads: U64Array, addresses: U64Array
    ) -> Optional[AreaRecords]:
        """Search trees; None if there are none, or one is damaged on the way."""
        dtype, offset = self._layout.vmap_area, self._layout.rb_offset
        if self._lists_only or offset is None:
            return None
        try:
            roots = read_rb_roots(self._memory, heads, dtype)
        except Fault:
            return None
        found, _, problems = search_rb_trees(
            self._memory, roots, dtype, offset, addresses
        )
        # What lies before an area that holds an address takes another search.
        records, _ = self._memory.records(found, dtype)
        holds = np.searchsorted(addresses, records["va_end"]) > np.searchsorted(
            addresses, records["va_start"]
        )
        before = np.unique(records["va_start"][holds]) - np.uint64(1)
        found, tree, more = search_rb_trees(
            self._memory, roots, dtype, offset, np.union1d(addresses, before)
        )
        if problems or more:
            return None
        records, ok = self._memory.records(found, dtype)
        order = np.lexsort((records["va_start"], tree))
        order = order[ok[order]]
        node = np.full(len(order), NO_NODE)
        if self._nodes and state != State.FREE:
            node = self._nodes.index[tree[order]]
        return self._sane(AreaRecords(state, found[order], records[order], node))

    def _global_tree(self, name: str) -> Tuple[U64Array, List[int]]:
        """
        Return the addresses of the rb_root and the list head of this name; _LOST for one
        of them that is not known.
        """
        values = self._target.values
        root, head = f"{name}_root", f"{name}_list"
        if self._lists_only:
            at = values.need(head, values.address(head))
            return np.zeros(1, np.uint64), [at]
        found = [values.address(root), values.address(head)]
        for one, address in zip((root, head), found):
            if address is None:
                # One leads to all areas as well as the other.
                values.need(one, max(found, key=bool))
                detail = "where it is is lost"
                self.problems.append(Problem(ProblemKind.UNREADABLE, one, detail))
        return np.array([found[0] or _LOST], np.uint64), [found[1] or _LOST]

    def _address(self, name: str) -> int:
        values = self._target.values
        return values.need(name, values.address(name))

    def _need_types(self) -> None:
        """
        See that what leads to areas is followed by types that are known.

        :raises SymbolsError: if they are not.
        """
        if self._layout.why_guessed:
            raise self._layout.why_guessed

    def _read_nodes(self, dtype: Record) -> None:
        try:
            nodes = read_nodes(self._target.values, self._memory, dtype)
        except (Fault, SymbolsError) as e:
            self._why_no_nodes = e
            return
        self.problems += nodes.problems
        if nodes.address:
            self._nodes = nodes

    def _need_nodes(self) -> Optional[VmapNodes]:
        """
        Return the nodes, None on kernels without.

        :raises VmapError: if all of them are lost.
        """
        if self._layout.vmap_node and not self._nodes:
            raise self._why_no_nodes
        return self._nodes

    def _may_search(self) -> bool:
        """Return whether areas can be found that nothing leads to."""
        # Where freed ones stay among the others, these would be found too.
        return not (self._target.live or self._layout.has_old_flags)

    def _add_lost(
        self, found: AreaRecords, why: Optional[VmapError] = None
    ) -> AreaRecords:
        """
        Add areas in use that nothing leads to.

        :param why: Why nothing does, if that is so of all.
        :raises VmapError: that, if there are none.
        """
        try:
            address, records, unsure = self._find_lost(self._busy_heads())
        except VmapError as e:
            # What was damaged is told already.
            if why:
                raise why from e
            return found
        new = np.flatnonzero(~np.isin(address, found.address))
        nodes = np.full(len(new), NO_NODE)
        lost = self._sane(AreaRecords(State.BUSY, address[new], records[new], nodes))
        if why and not len(lost.address):
            raise why
        self._tell_of_lost(len(lost.address), unsure, why)
        return AreaRecords(
            State.BUSY,
            np.concatenate([found.address, lost.address]),
            join_records([found.records, lost.records]),
            np.concatenate([found.vmap_node, lost.vmap_node]),
        )

    def _tell_of_lost(self, count: int, unsure: int, why: Optional[VmapError]) -> None:
        because = ""
        if why and why is not self._layout.why_guessed:
            because = f": {why.why if isinstance(why, Fault) else _first_part(why)}"
        details = []
        if count:
            details.append(f"{count} were found in RAM that nothing leads to{because}")
        if unsure:
            details.append(f"{unsure} are left out that may be in use, or freed lately")
        for detail in details:
            self.problems.append(Problem(ProblemKind.UNREADABLE, "vmap_area", detail))

    def _busy_heads(self) -> List[int]:
        """Return the addresses of lists of areas in use, as far as they are known."""
        if self._nodes:
            return self._members("busy.head")
        name = "vmap_area_list"
        told = self._target.vmcoreinfo.symbols.get(name)
        known = self._target.values.address(name)
        return [head for head in (told, known) if head is not None]

    def _node_trees(self, name: str) -> Tuple[U64Array, List[int]]:
        """Return the addresses of each node's rb_root and list head of this name."""
        heads = self._members(f"{name}.head")
        if self._lists_only:
            return np.zeros(len(heads), np.uint64), heads
        return np.array(self._members(f"{name}.root"), np.uint64), heads

    def _members(self, member: str) -> List[int]:
        """Return the address of a member of each node."""
        assert self._nodes is not None
        offset = need_offset(self._target.prog, "struct vmap_node", member)
        return [(address + offset) % (1 << 64) for address in self._nodes.address]

    def _pool(self, nodes: VmapNodes, at: int) -> List[int]:
        prog = self._target.prog
        offset = need_offset(prog, "struct vmap_node", "pool")
        pool = record_dtype(prog, "struct vmap_pool", {"next": "head.next"})
        count = array_length(prog, "struct vmap_node", "pool")
        index = np.arange(count, dtype=np.uint64)
        heads = np.uint64(nodes.address[at] + offset) + index * np.uint64(pool.itemsize)
        pools = self._memory.records_in(nodes.raw[at], pool, count, offset)
        following = pools["next"]
        address = []
        for head in heads[following != heads].tolist():
            address += self._list(head)
        return address

    def _list(self, head: int, long: bool = False) -> List[int]:
        """
        Return the addresses of areas in a list.

        :param long: It may be so also on a live kernel.
        """
        live = self._target.live and not long
        links, problems = walk_list(self._memory, head, live)
        self.problems += problems
        return [_containing(link, self._layout.list_offset) for link in links]

    def _of_mixed(self, state: State) -> AreaRecords:
        """Return those areas of a state that are kept among others (before 5.4)."""
        if not self._mixed:
            all_ = self._from_trees(State.BUSY, *self._global_tree("vmap_area"))
            freed = all_.records["flags"] & np.uint64(VM_LAZY_FREE) != 0
            # vm_unmap_ram() sets no flag.
            freed |= np.isin(all_.address, np.array(self._freed(), np.uint64))
            for one, rows in ((State.BUSY, ~freed), (State.LAZY, freed)):
                records = all_.records[rows]
                # Where the flag is missing, nobody ever wrote a vm.
                records["vm"][records["flags"] & np.uint64(VM_VM_AREA) == 0] = 0
                address, node = all_.address[rows], all_.vmap_node[rows]
                self._mixed[one] = AreaRecords(one, address, records, node)
        return self._mixed[state]

    def _has_free_list(self) -> bool:
        """Whether what is free is kept anywhere."""
        list_ = self._target.values.address("free_vmap_area_list")
        return self._layout.has_free_tree or list_ is not None

    def _between(self, *held: AreaRecords) -> AreaRecords:
        """Return what no area holds, where that is all that tells what is free."""
        size = self._layout.kernel.word_size
        start = np.concatenate([areas.records["va_start"] for areas in held])
        end = np.concatenate([areas.records["va_end"] for areas in held])
        start = np.sort(np.append(start, np.uint64((1 << 8 * size) - 1)))
        end = np.maximum.accumulate(np.sort(np.append(end, np.uint64(1))))
        rows = np.flatnonzero(end < start)
        records = np.zeros(len(rows), self._layout.vmap_area)
        records["va_start"], records["va_end"] = end[rows], start[rows]
        nowhere = np.zeros(len(rows), np.uint64)
        nodes = np.full(len(rows), NO_NODE)
        return AreaRecords(State.FREE, nowhere, records, nodes)

    def _freed(self) -> List[int]:
        """Return the addresses of areas in the llist of those that were freed."""
        head = self._address("vmap_purge_list")
        links, problems = walk_llist(self._memory, head, self._target.live)
        self.problems += problems
        offset = need_offset(self._target.prog, "struct vmap_area", "purge_list")
        return [_containing(link, offset) for link in links]

    def _from_llist(self) -> AreaRecords:
        address = self._freed()
        return self._records(State.LAZY, address, [NO_NODE] * len(address))

    def _from_trees(
        self, state: State, roots: U64Array, heads: Iterable[int]
    ) -> AreaRecords:
        kernel, offset = self._layout.kernel, self._layout.rb_offset
        heads = list(heads)
        if self._lists_only or offset is None:
            return self._from_lists(state, heads)
        try:
            tree = read_rb_trees(
                self._memory, roots, self._layout.vmap_area, offset, tries(kernel)
            )
        except Fault as e:
            tree = self._from_lists_only(heads, e)
        self.lasting += tree.problems
        # On a live kernel, an area that is freed leads from its list into others.
        if tree.problems and not kernel.live:
            tree = self._add_from_lists(tree, heads)
        nodes = self._nodes_of(state, tree.root)
        return self._sane(AreaRecords(state, tree.address, tree.records, nodes))

    def _nodes_of(self, state: State, at: Array) -> Array:
        """Return the node of each area, of which it is known at which place it is."""
        if self._nodes and state != State.FREE:
            return self._nodes.index[at]
        return np.full(len(at), NO_NODE)

    def _from_lists(self, state: State, heads: List[int]) -> AreaRecords:
        """Read areas where there are no trees, or none that anybody wants to read."""
        found = [self._list(head, long=True) for head in heads]
        address = [one for some in found for one in some]
        at = np.repeat(np.arange(len(found)), [len(some) for some in found])
        return self._records(state, address, self._nodes_of(state, at).tolist())

    def _from_lists_only(self, heads: List[int], why: Fault) -> TreeNodes:
        """
        Return what stands for trees whose roots cannot be read.

        :raises Fault: if nothing is in the lists either.
        """
        if self._target.live or not any(map(self._list, heads)):
            raise why
        detail = f"areas are looked for in lists alone: {why.why}"
        problem = Problem(ProblemKind.UNREADABLE, "rb_root", detail)
        no_areas = np.empty(0, np.uint64)
        no_records = np.empty(0, self._layout.vmap_area)
        return TreeNodes(no_areas, no_records, np.empty(0, np.intp), (problem,))

    def _add_from_lists(self, tree: TreeNodes, heads: Iterable[int]) -> TreeNodes:
        """Add areas that a damaged tree lost and its list still has."""
        parts = [(tree.address, tree.records, tree.root)]
        for index, head in enumerate(heads):
            found = np.array(self._list(head), np.uint64)
            lost = np.unique(found[~np.isin(found, tree.address)])
            records, ok = self._memory.records(lost, self._layout.vmap_area)
            root = np.full(int(ok.sum()), index)
            parts.append((lost[ok], records[ok], root))
        return join_nodes(parts, self._layout.vmap_area, tree.problems)

    def _records(
        self, state: State, address: List[int], node: List[int]
    ) -> AreaRecords:
        """Read the areas at these addresses, leaving out what is unreadable."""
        at = np.array(address, np.uint64)
        records, ok = self._memory.records(at, self._layout.vmap_area)
        self.problems += [
            Problem(
                ProblemKind.UNREADABLE, f"vmap_area {lost:#x}", f"a {state.label} area"
            )
            for lost in at[~ok].tolist()
        ]
        nodes = np.array(node, np.intp)
        return self._sane(AreaRecords(state, at[ok], records[ok], nodes[ok]))

    def _sane(self, areas: AreaRecords) -> AreaRecords:
        """Leave out what cannot be an area, and say so."""
        start, end = areas.records["va_start"], areas.records["va_end"]
        sane = start < end
        if areas.state != State.FREE:
            unaligned = (start | end) % np.uint64(self._layout.kernel.page_size)
            sane &= unaligned == 0
        if sane.all():
            return areas
        for at in np.flatnonzero(~sane).tolist():
            where = f"vmap_area {areas.address[at]:#x}"
            detail = f"no area can be {start[at]:#x}-{end[at]:#x}, left out"
            self.problems.append(Problem(ProblemKind.CORRUPT, where, detail))
        return AreaRecords(
            areas.state, areas.address[sane], areas.records[sane], areas.vmap_node[sane]
        )


def _first_part(error: VmapError) -> str:
    """Return what is wrong, without what to do about it."""
    return str(error).partition(": ")[0]


def _containing(member: int, offset: int) -> int:
    """Return the address of the struct around a member, whatever the member is."""
    return (member - offset) % (1 << 64)
