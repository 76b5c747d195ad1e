# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Lazily freed pages
------------------

How many pages of addresses wait to be purged, by the kernel's own count, and how
many it lets wait (mm/vmalloc.c).
"""

from ...model.space import LazyPages
from ..memory.cpus import online_cpus
from ..target import Target

__all__ = ("lazy_pages",)

_BYTES_PER_STEP = 32 << 20


def lazy_pages(target: Target) -> LazyPages:
    """
    Read vmap_lazy_nr, and compute what lazy_max_pages() returns.

    :raises SymbolsError: if one of them is not known.
    :raises Fault: if one of them cannot be read.
    """
    values = target.values
    counted = values.number(lambda prog: prog["vmap_lazy_nr"].counter)
    if counted is not None and target.layout.has_old_flags:
        # It was an int once, and BTF does not tell; nothing has so many pages.
        counted &= 0xFFFFFFFF
    steps = len(online_cpus(values)).bit_length()
    return LazyPages(
        counted=values.need("vmap_lazy_nr", counted),
        maximum=steps * (_BYTES_PER_STEP // target.page_size),
    )
