# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Page frames
-----------

Which page frame a ``struct page`` stands for, and the way back. All of them lie in one
array (``vmemmap``) on kernels built with CONFIG_SPARSEMEM_VMEMMAP, as all of 64 bits are
that distributions ship; other kernels are refused.
"""

from typing import List, NamedTuple, Tuple

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
        first = values.number(lambda prog: prog["vmemmap"])
        size = type_size(values.prog, "struct page")
        if first is None or not size:
            raise SymbolsError(
                "where its struct pages are is not known (kernels without "
                "CONFIG_SPARSEMEM_VMEMMAP): use the addresses of pages instead"
            )
        self.first: int = first
        self.size: int = size
        """Bytes of a struct page."""

    def count(self) -> int:
        """
        Return how many page frames there are, up to the last one of any node.

        :raises Fault: if the nodes cannot be read.
        """
        return max((span.end for span in node_spans(self._values)), default=0)

    def pages(self, frames: U64Array) -> U64Array:
        """Return the address of the ``struct page`` of each page frame."""
        return np.uint64(self.first) + frames * np.uint64(self.size)

    def of(self, pages: U64Array) -> U64Array:
        """
        Return the page frame of each page.

        :param pages: Addresses of ``struct page``.
        """
        return (pages - np.uint64(self.first)) // np.uint64(self.size)
