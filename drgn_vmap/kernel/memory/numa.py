# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
NUMA nodes
----------

Which node a page belongs to, as show_numa_info() of mm/vmalloc.c counts them.
"""

from typing import Optional, Sequence, Tuple

from ..._numpy import Array, U64Array, np, spread
from ...errors import Fault
from ..doors import Values
from ..types.structs import pointer_dtype, record_dtype
from .bulk import Memory
from .frames import PageFrames, node_spans, nodes_in

__all__ = ("NodeFinder", "numa_nodes")

_NOWHERE = -1
_LOOKS = 1 << 16
"""Pages looked at in one go, which bounds the memory it takes."""


def numa_nodes(values: Values) -> Tuple[int, ...]:
    """
    Return the nodes that have memory (N_HIGH_MEMORY), in ascending order.

    :return: Node ids; none if the kernel was built without CONFIG_NUMA.
    :raises Fault: if the node masks cannot be read.
    :raises SymbolsError: if what node a page belongs to is not known.
    """
    if values.address("node_data") is None:
        return ()
    try:
        PageFrames(values)
    except Fault:
        pass  # Pages' own flags tell as well.
    return nodes_in(values, "N_HIGH_MEMORY")


class NodeFinder:
    """
    Finds the node of pages.

    If there can be one node only, all pages are its own. Else a page frame tells its
    node if no two nodes' spans overlap, and then no struct page need be read; or else
    the node is in the page's flags.

    :raises Fault: if which nodes there can be cannot be read.
    """

    def __init__(self, values: Values, memory: Memory) -> None:
        self._memory = memory
        self._possible = nodes_in(values, "N_POSSIBLE")
        self._word = pointer_dtype(values.prog)
        self._page = record_dtype(values.prog, "struct page", {"flags": "flags"})
        # NODES_PGSHIFT (include/linux/page-flags-layout.h): with a vmemmap, the
        # node is in the highest NODES_SHIFT bits, and node_data has
        # 1 << NODES_SHIFT elements.
        nodes = values.prog["node_data"].type_.length or 1
        self._flags_shift = np.uint64(
            8 * self._word.itemsize - (nodes - 1).bit_length()
        )
        self._spans: Optional[Tuple[U64Array, U64Array, Array]] = None
        try:
            self._frames = PageFrames(values)
            self._spans = _disjoint_spans(values)
        except Fault:
            pass

    def count(
        self, pages: U64Array, nr_pages: U64Array, step: U64Array, nodes: Sequence[int]
    ) -> Tuple[Array, Array]:
        """
        Count the pages of each area by node.

        :param pages: Addresses of the areas' ``struct page *`` arrays.
        :param nr_pages: Length of each array.
        :param step: Only every step-th page is looked at, and counts for as many.
        :param nodes: Nodes to count, one column each.
        :return: Counts, and which areas could be counted in full.
        """
        counts = np.zeros((len(pages), len(nodes)), np.uint64)
        whole = np.ones(len(pages), bool)
        looks = (nr_pages + step - np.uint64(1)) // step
        if self._possible == tuple(nodes) and len(nodes) == 1:
            return (looks * step).reshape(-1, 1), whole
        ends = np.cumsum(looks)
        begin = 0
        while begin < len(pages):
            done = int(ends[begin - 1]) if begin else 0
            end = int(np.searchsorted(ends, np.uint64(done + _LOOKS), side="right"))
            rows = slice(begin, max(end, begin + 1))
            count = self._count_rows if end > begin else self._count_long
            counts[rows], whole[rows] = count(
                pages[rows], looks[rows], step[rows], nodes
            )
            begin = rows.stop
        return counts, whole

    def _count_long(
        self, pages: U64Array, looks: U64Array, step: U64Array, nodes: Sequence[int]
    ) -> Tuple[Array, Array]:
        """Count one area's pages part by part, up to the first that is not there."""
        counts = np.zeros((1, len(nodes)), np.uint64)
        whole = np.ones(1, bool)
        bytes_ = step * np.uint64(self._word.itemsize)
        done = np.uint64(0)
        while whole.all() and done < looks[0]:
            part = np.minimum(looks - done, np.uint64(_LOOKS))
            more, whole = self._count_rows(pages + done * bytes_, part, step, nodes)
            counts += more
            done += part[0]
            self._memory.forget()
        return counts, whole

    def _count_rows(
        self, pages: U64Array, looks: U64Array, step: U64Array, nodes: Sequence[int]
    ) -> Tuple[Array, Array]:
        row, index = spread(looks)
        offset = index.astype(np.uint64) * step[row] * np.uint64(self._word.itemsize)
        pointers, ok = self._memory.records(pages[row] + offset, self._word)
        node = np.where(ok, self.nodes_of(pointers), _NOWHERE)
        whole = np.ones(len(pages), bool)
        whole[row[node == _NOWHERE]] = False
        counts = [
            np.bincount(row[node == n], minlength=len(pages)).astype(np.uint64) * step
            for n in nodes
        ]
        return np.stack(counts, axis=1), whole

    def nodes_of(self, pages: U64Array) -> Array:
        """
        Return the node of each page, _NOWHERE if it cannot be had.

        :param pages: Addresses of ``struct page``.
        """
        if self._spans is None:
            records, ok = self._memory.records(pages, self._page)
            nodes = (records["flags"] >> self._flags_shift).astype(np.int64)
            return np.where(ok, nodes, _NOWHERE)
        starts, ends, ids = self._spans
        pfn = self._frames.of(pages)
        span = np.searchsorted(starts, pfn, side="right") - 1
        inside = (span >= 0) & (pfn < ends[span])
        return np.where(inside, ids[span], _NOWHERE)


def _disjoint_spans(values: Values) -> Optional[Tuple[U64Array, U64Array, Array]]:
    """
    Return sorted starts and ends of the nodes' page frames, and the nodes.

    :return: None if they overlap.
    :raises Fault: if the nodes cannot be read.
    """
    spans = node_spans(values)
    if not spans or any(a.end > b.first for a, b in zip(spans, spans[1:])):
        return None
    starts, ends, ids = zip(*spans)
    return (
        np.array(starts, np.uint64),
        np.array(ends, np.uint64),
        np.array(ids, np.int64),
    )
