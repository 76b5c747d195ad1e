# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in which state, as drgn's own helpers walk the kernel's lists."""

from __future__ import annotations

from typing import Iterator

from drgn import Object, Program
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import for_each_vmap_area

__all__ = ("walked",)


def walked(prog: Program) -> dict[str, list[tuple[int, int]]]:
    """Return start and end of areas by state, from lists, by drgn's helpers."""

    def listed(head: Object) -> Iterator[Object]:
        return list_for_each_entry("struct vmap_area", head.address_of_(), "list")

    found = {"busy": list(for_each_vmap_area(prog))}
    found["free"] = list(listed(prog["free_vmap_area_list"]))
    try:
        nodes = prog["vmap_nodes"]
    except KeyError:
        lazy = "purge_vmap_area_list"
        found["lazy"] = list(listed(prog[lazy])) if lazy in prog else []
    else:
        every = [nodes[index] for index in range(prog["nr_vmap_nodes"].value_())]
        found["lazy"] = [va for node in every for va in listed(node.lazy.head)]
        found["pool"] = [
            va for node in every for pool in node.pool for va in listed(pool.head)
        ]
    return {
        state: [(va.va_start.value_(), va.va_end.value_()) for va in areas]
        for state, areas in found.items()
    }
