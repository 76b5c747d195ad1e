# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kinds
-----

What an area is, in the words of /proc/vmallocinfo where it has one. An area has
every kind that applies.
"""

from typing import Dict, Tuple

from .._numpy import Array, np
from ..model.areas import VM_LABELS, VMAP_RAM, Snapshot, State, vm_flag

__all__ = ("KINDS", "kind_masks", "ram_mask")

_FLAG_KINDS = ("vmalloc", "vmap", "ioremap", "user", "dma-coherent", "sparse")

KINDS: Tuple[str, ...] = (*_FLAG_KINDS, "vm_map_ram", "vmap_block", "unpurged")
"""All kinds. A vm_map_ram area is one of its own, a vmap_block is divided."""


def kind_masks(snapshot: Snapshot) -> Dict[str, Array]:
    """Return for each kind which areas are of it."""
    areas = snapshot.areas
    masks = {kind: areas.flags & vm_flag(VM_LABELS[kind]) != 0 for kind in _FLAG_KINDS}
    if not snapshot.kernel.rules.sparse_label:
        masks["sparse"] = np.zeros(len(areas), bool)
    masks["vm_map_ram"] = ram_mask(snapshot) & ~areas.is_block
    masks["vmap_block"] = areas.is_block
    masks["unpurged"] = areas.state == State.LAZY
    for at, label in enumerate(snapshot.labels):
        masks[label] = areas.flags >> np.uint64(32 + at) & np.uint64(1) != 0
    return masks


def ram_mask(snapshot: Snapshot) -> Array:
    """
    Return which busy areas vm_map_ram() made.

    Without vmap_area.flags (before 6.3) these are all areas without a vm, also
    ones that are just being set up or torn down.
    """
    areas = snapshot.areas
    without_vm = (areas.state == State.BUSY) & (areas.vm == 0)
    if not snapshot.kernel.has_va_flags:
        return without_vm
    return without_vm & (areas.va_flags & np.uint64(VMAP_RAM) != 0)
