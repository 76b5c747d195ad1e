# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Page frames
-----------

Which page frame a ``struct page`` stands for, and the way back. All of them lie in one
array (``vmemmap``) on kernels built with CONFIG_SPARSEMEM_VMEMMAP, as all of 64 bits are
that distributions ship; other kernels are refused.
"""

from drgn import FaultError, Program, sizeof
from drgn.helpers.linux.mmzone import for_each_online_pgdat

from .._numpy import U64Array, np
from ..errors import SymbolsError, TargetError

__all__ = ("PageFrames",)


class PageFrames:
    """
    The array of all struct pages.

    :raises SymbolsError: if there is none, or nothing tells where it is.
    :raises TargetError: if where it is cannot be read.
    """

    def __init__(self, prog: Program) -> None:
        self._prog = prog
        try:
            self.first: int = int(prog["vmemmap"].value_())
        except LookupError:
            raise SymbolsError(
                "where its struct pages are is not known (kernels without "
                "CONFIG_SPARSEMEM_VMEMMAP): use the addresses of pages instead"
            ) from None
        except FaultError as e:
            raise TargetError(
                f"where its struct pages are cannot be read ({e}): "
                "take a vmcore that is neither damaged nor cut short"
            ) from e
        self.size: int = sizeof(prog.type("struct page"))
        """Bytes of a struct page."""

    def count(self) -> int:
        """
        Return how many page frames there are, up to the last one of any node.

        :raises FaultError: if the nodes cannot be read.
        """
        return max(
            int(node.node_start_pfn) + int(node.node_spanned_pages)
            for node in for_each_online_pgdat(self._prog)
        )

    def pages(self, frames: U64Array) -> U64Array:
        """Return the address of the ``struct page`` of each page frame."""
        return np.uint64(self.first) + frames * np.uint64(self.size)

    def of(self, pages: U64Array) -> U64Array:
        """
        Return the page frame of each page.

        :param pages: Addresses of ``struct page``.
        """
        return (pages - np.uint64(self.first)) // np.uint64(self.size)
