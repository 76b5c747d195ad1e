# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Description
-----------

Areas as rows by themselves, each with only what applies to it.
"""

from dataclasses import replace
from typing import Iterator, Optional

from .._numpy import Array, np
from ..model.areas import Area, Snapshot, State
from .kinds import kind_masks

__all__ = ("describe",)


def describe(snapshot: Snapshot, rows: Optional[Array] = None) -> Iterator[Area]:
    """
    Yield areas one by one.

    :param rows: Rows of ``snapshot.areas``; all by default.
    """
    kernel = snapshot.kernel
    if rows is not None:
        snapshot = replace(snapshot, areas=snapshot.areas.take(rows))
    areas = snapshot.areas
    masks = kind_masks(snapshot)
    kinds = np.stack(list(masks.values()), axis=1)
    for row in range(len(areas)):
        state = State(areas.state[row])
        has_vm = bool(areas.vm_ok[row])
        caller = int(areas.caller[row])
        nr_pages = int(areas.nr_pages[row])
        numa = {
            node: int(count)
            for node, count in zip(kernel.numa_nodes, areas.numa_pages[row])
            if count
        }
        yield Area(
            start=int(areas.start[row]),
            end=int(areas.end[row]),
            state=state,
            kinds=tuple(kind for kind, is_it in zip(masks, kinds[row]) if is_it),
            vmap_node=int(areas.vmap_node[row]) if areas.vmap_node[row] >= 0 else None,
            va_flags=(
                int(areas.va_flags[row])
                if kernel.has_va_flags and state != State.FREE
                else None
            ),
            vm_flags=int(areas.flags[row]) if has_vm else None,
            caller=snapshot.callers[caller] if caller else None,
            caller_addr=caller or None,
            pages=nr_pages or None,
            page_order=int(areas.page_order[row]) if nr_pages else None,
            phys=int(areas.phys_addr[row]) or None,
            numa=numa or None,
            requested_size=int(areas.requested_size[row]) or None,
            owners=snapshot.owners[areas.owners[row]],
        )
