# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Lazily freed pages
------------------

How many pages of addresses wait to be purged, by the kernel's own count, and how
many it lets wait (mm/vmalloc.c).
"""

from drgn import Program
from drgn.helpers.linux.cpumask import num_online_cpus

from ..model.space import LazyPages

__all__ = ("lazy_pages",)

_BYTES_PER_STEP = 32 << 20


def lazy_pages(prog: Program) -> LazyPages:
    """Read vmap_lazy_nr, and compute what lazy_max_pages() returns."""
    steps = int(num_online_cpus(prog)).bit_length()
    return LazyPages(
        counted=int(prog["vmap_lazy_nr"].counter.value_()),
        maximum=steps * (_BYTES_PER_STEP // int(prog["PAGE_SIZE"].value_())),
    )
