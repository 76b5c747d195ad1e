# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What /proc/vmallocinfo lists
----------------------------

Which areas the kernel's own file has a line for, in which order: by the rules
of the kernel at hand (vmalloc_info_show(), or s_show() before 6.9).
"""

from .._numpy import Array, np
from ..model.areas import Snapshot, State, vm_flag
from .kinds import ram_mask

__all__ = ("listed_rows", "may_leave_out_lazy")


def listed_rows(snapshot: Snapshot) -> Array:
    """
    Return the rows of ``snapshot.areas`` that have a line, in its order.

    An area whose vm_struct could not be read has one in the kernel's file, so it
    is among them.
    """
    areas, rules = snapshot.areas, snapshot.kernel.rules
    has_line = (areas.vm != 0) | ram_mask(snapshot)
    if not rules.uninitialized_listed:
        has_line &= areas.flags & vm_flag("VM_UNINITIALIZED") == 0
    busy = np.flatnonzero(areas.state == State.BUSY)
    lazy = np.flatnonzero(areas.state == State.LAZY)
    if rules.lazy_by_flag:
        all_ = np.concatenate((busy, lazy))
        return all_[np.argsort(areas.start[all_], kind="stable")]
    if not rules.per_node and not len(busy):
        lazy = lazy[:0]
    if rules.lazy_after_vm_only and _ends_without_vm(snapshot):
        lazy = lazy[:0]
    return np.concatenate((busy[has_line[busy]], lazy))


def may_leave_out_lazy(snapshot: Snapshot) -> bool:
    """Return whether nothing tells if the file has lines of lazily freed areas."""
    unsure = snapshot.kernel.rules.lazy_after_vm_only is None
    lazy = bool(np.any(snapshot.areas.state == State.LAZY))
    return unsure and lazy and _ends_without_vm(snapshot)


def _ends_without_vm(snapshot: Snapshot) -> bool:
    """Whether the last area in use is one that vm_map_ram() made."""
    areas = snapshot.areas
    busy = np.flatnonzero(areas.state == State.BUSY)
    return bool(len(busy)) and not areas.vm[busy[-1]]
