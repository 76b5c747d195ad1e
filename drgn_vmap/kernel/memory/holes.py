# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Holes
-----

Whether there is memory at a physical address: nodes span holes, and so does the array of
struct pages.
"""

from ..._drgn import section_is_present
from ...errors import Fault, SymbolsError
from ..doors import Values, door
from .bulk import Memory
from .frames import node_spans
from .resources import Resource, resource_name, resources

__all__ = ("why_no_page", "why_no_ram")


def why_no_page(values: Values, frame: int) -> str:
    """
    Return why a page frame has no ``struct page``.

    :return: Empty if it has one, or if nothing tells.
    """
    try:
        if not any(span.first <= frame < span.end for span in node_spans(values)):
            return "no node spans it"
    except (Fault, SymbolsError):
        pass
    try:
        with door():
            there = section_is_present(values.prog, frame)
    except Fault:
        return ""
    return "" if there else "its section of memory is not present"


def why_no_ram(values: Values, memory: Memory, address: int) -> str:
    """
    Return why there is no RAM at a physical address, by what /proc/iomem prints.

    :return: Empty if there is some, or if nothing tells.
    """

    def holds(resource: Resource) -> bool:
        return resource.start <= address <= resource.end

    try:
        found, problems = resources(values, memory, holds)
        holding = [resource for resource in found if holds(resource)]
        # Where the tree is damaged, there may be RAM that it lost. With no resource at
        # all, it is none.
        if problems or not holding or any(one.is_ram for one in holding):
            return ""
        if len(holding) == 1:
            return "/proc/iomem lacks it"
        return f"/proc/iomem has it as {resource_name(memory, holding[-1])}"
    except (Fault, SymbolsError):
        return ""
