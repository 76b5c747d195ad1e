# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Page frames
-----------

Which page frame a ``struct page`` stands for, and the way back. All of them lie in one
array on kernels built with CONFIG_SPARSEMEM_VMEMMAP (``vmemmap``), as all of 64 bits are
that distributions ship, and on those with CONFIG_FLATMEM, as those of 32-bit Arm are;
other kernels are refused.
"""

from typing import List, NamedTuple, Optional, Tuple

from drgn import Object, Program

from ..._numpy import U64Array, np
from ...errors import SymbolsError
from ..doors import Values
from ..types.structs import type_size

__all__ = ("NodeSpan", "PageFrames", "node_data", "node_spans", "nodes_in")

_MAX_FRAMES = 1 << 52
"""More page frames than any architecture has addresses for."""


class NodeSpan(NamedTuple):
    """The page frames of a NUMA node, holes included."""

    first: int
    end: int
    """The first one behind them."""
    node: int


def nodes_in(values: Values, state: str) -> Tuple[int, ...]:
    """
    Return the NUMA nodes in a state.

    :param state: Of ``enum node_states``, such as ``N_ONLINE``.
    :return: Node ids, ascending.
    :raises SymbolsError: if the kernel's masks of nodes are not known.
    :raises Fault: if they cannot be read.
    """
    return values.need(
        "node_states",
        values.bits(lambda prog: prog["node_states"][prog[state]].bits),
    )


def node_data(prog: Program, node: int) -> Object:
    """
    Return what a kernel keeps of a NUMA node, as its own NODE_DATA() does.

    :return: ``struct pglist_data *``
    :raises LookupError: if that is not known.
    """
    try:
        return prog["node_data"][node]
    except KeyError:
        # Without CONFIG_NUMA there is one.
        return prog["contig_page_data"].address_of_()


def node_spans(values: Values) -> List[NodeSpan]:
    """
    Return the page frames of each online node that has any, ascending.

    What cannot be a span is left out.

    :raises SymbolsError: if the nodes are not known.
    :raises Fault: if one cannot be read.
    """
    spans = []
    for node in nodes_in(values, "N_ONLINE"):
        first = values.number(lambda prog: node_data(prog, node).node_start_pfn)
        pages = values.number(lambda prog: node_data(prog, node).node_spanned_pages)
        first, pages = values.need("node_data", first), values.need("node_data", pages)
        if pages and first + pages <= _MAX_FRAMES:
            spans.append(NodeSpan(first, first + pages, node))
    return sorted(spans)


class PageFrames:
    """
    The array of all struct pages.

    :raises SymbolsError: if there is none, or nothing tells where it is.
    :raises Fault: if where it is cannot be read.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        name, frame = "vmemmap", 0
        first = values.number(lambda prog: prog["vmemmap"])
        if first is None:
            name, (first, frame) = "mem_map", _only_node(values)
        size = type_size(values.prog, "struct page")
        if first is None or not size:
            raise SymbolsError(
                "where its struct pages are is not known (kernels with neither "
                "CONFIG_SPARSEMEM_VMEMMAP nor CONFIG_FLATMEM): use the addresses of pages "
                "instead"
            )
        self.name = name
        """What the kernel calls the array."""
        self.first: int = first
        self.first_frame: int = frame
        """The page frame of the first one."""
        self.size: int = size
        """Bytes of a struct page."""

    @property
    def end(self) -> int:
        """
        Return the address behind the last one.

        :raises Fault: if the nodes cannot be read.
        """
        return self.first + max(self.count() - self.first_frame, 0) * self.size

    def count(self) -> int:
        """
        Return how many page frames there are, up to the last one of any node.

        :raises Fault: if the nodes cannot be read.
        """
        return max((span.end for span in node_spans(self._values)), default=0)

    def pages(self, frames: U64Array) -> U64Array:
        """Return the address of the ``struct page`` of each page frame."""
        index = frames.astype(np.uint64) - np.uint64(self.first_frame)
        return np.uint64(self.first) + index * np.uint64(self.size)

    def of(self, pages: U64Array) -> U64Array:
        """
        Return the page frame of each page.

        :param pages: Addresses of ``struct page``.
        """
        index = (pages.astype(np.uint64) - np.uint64(self.first)) // np.uint64(
            self.size
        )
        return index + np.uint64(self.first_frame)


def _only_node(values: Values) -> Tuple[Optional[int], int]:
    """
    Return where the struct pages of a kernel's only node begin, and the first one's frame.

    A node has an array of its own with CONFIG_FLATMEM alone.
    """
    first, frame = (
        values.number(lambda prog: prog["contig_page_data"].member_(name))
        for name in ("node_mem_map", "node_start_pfn")
    )
    return (None, 0) if frame is None else (first, frame)
