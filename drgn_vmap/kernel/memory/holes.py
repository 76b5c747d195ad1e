# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Holes
-----

Whether there is memory at a physical address: nodes span holes, and so does the array of
struct pages.
"""

from typing import Iterator, NamedTuple

from drgn import Object

from ..._drgn import section_is_present
from ...errors import Fault, SymbolsError
from ..doors import Values, door
from .frames import node_spans

__all__ = ("why_no_page", "why_no_ram")

_RAM = "System RAM"
_MAX_RESOURCES = 1 << 16
"""More than /proc/iomem has lines."""
_MAX_DEPTH = 64


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


def why_no_ram(values: Values, address: int) -> str:
    """
    Return why there is no RAM at a physical address, by what /proc/iomem prints.

    :return: Empty if there is some, or if nothing tells.
    """
    try:
        found = list(_resources_at(values, address))
    except Fault:
        return ""
    # With no resource at all, the tree is not one.
    if not found or any(one.name == _RAM for one in found):
        return ""
    inner = found[1:]
    return (
        f"/proc/iomem has it as {inner[-1].name}" if inner else "/proc/iomem lacks it"
    )


class _Resource(NamedTuple):
    name: str
    start: int
    end: int
    """The last address in it."""


def _resources_at(values: Values, address: int) -> Iterator[_Resource]:
    """Yield the resources that hold an address, from all of memory inwards."""
    with door():
        if values.address("iomem_resource") is None:
            return
        at = values.prog["iomem_resource"].address_of_()
        looked = 0
        for _ in range(_MAX_DEPTH):
            while at and looked < _MAX_RESOURCES:
                found = _resource(at)
                looked += 1
                if found.start <= address <= found.end:
                    break
                at = at.sibling.read_()
            else:
                return
            yield found
            at = at.child.read_()


def _resource(at: Object) -> _Resource:
    name = at.name.read_()
    text = name.string_().decode("utf-8", "backslashreplace") if name else "(no name)"
    return _Resource(text, at.start.value_(), at.end.value_())
