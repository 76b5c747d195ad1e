# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A copy of /proc/meminfo
-----------------------

Its VmallocUsed is the kernel's own count (fs/proc/meminfo.c): of the pages that
vmalloc() allocated, of none, or of the addresses that all areas take.
"""

import re

from ..errors import UsageError
from ..model.sums import PageCounter

__all__ = ("counter_of",)

# Since Linux kernel commit 97105f0ab7b8 ("mm: vmalloc: show number of vmalloc pages in
# /proc/meminfo") (in v5.3), VmallocUsed counts pages. Since Linux kernel commit
# a5ad88ce8c7f ("mm: get rid of 'vmalloc_info' from /proc/meminfo") (in v4.4), it was 0, and
# addresses were counted before that. A text does not say of which kernel it is, so what
# it counts is told from what it is equal to.


def counter_of(name: str, text: str, page_size: int) -> PageCounter:
    """
    Return the count that a copy of /proc/meminfo has.

    :param name: Of the file.
    :param page_size: In bytes.
    :raises UsageError: if there is none.
    """
    found = re.search(r"VmallocUsed:\s+([0-9]{1,18}) kB", text)
    if not found:
        raise UsageError(f"{name} has no VmallocUsed: give a copy of /proc/meminfo")
    return PageCounter(name, int(found[1]) * 1024 // page_size, 0)
