# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What /proc/kcore leaves out
---------------------------

Where vread() and vread_iter() of mm/vmalloc.c mean to return zeros, whatever is
mapped there.
"""

from typing import Dict

from .._numpy import Array, np
from ..model.areas import VM_FLAGS, Kernel, Snapshot, vm_flag
from ..model.kcore import KcoreRules

__all__ = ("guarded_mask", "is_guarded", "unread_flags", "unread_mask")


def unread_flags(kernel: Kernel, rules: KcoreRules) -> Dict[int, str]:
    """Return the ``VM_*`` flags of areas that are not read, and why they are not."""
    flags = {VM_FLAGS["VM_IOREMAP"]: "ioremap areas are not read"}
    if kernel.rules.sparse_label:
        flags[VM_FLAGS["VM_SPARSE"]] = "sparse areas are not read"
    if rules.reads_ram:
        flags[VM_FLAGS["VM_UNINITIALIZED"]] = "the area is not yet set up"
    return flags


def is_guarded(vm_flags: int) -> bool:
    """Return whether the last page of an area is taken for its guard, and not read."""
    return not vm_flags & VM_FLAGS["VM_NO_GUARD"]


def unread_mask(snapshot: Snapshot, rules: KcoreRules) -> Array:
    """Return which areas are not read."""
    areas = snapshot.areas
    flags = np.uint64(sum(unread_flags(snapshot.kernel, rules)))
    unread: Array = areas.vm_ok & (areas.flags & flags != 0)
    return unread


def guarded_mask(snapshot: Snapshot) -> Array:
    """Return the areas whose last page is not read."""
    areas = snapshot.areas
    guarded: Array = areas.vm_ok & (areas.flags & vm_flag("VM_NO_GUARD") == 0)
    return guarded
