# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Counters
--------

The kernel's own count of pages that vmalloc allocated, which /proc/meminfo shows
as VmallocUsed.
"""

from typing import Optional

from drgn import Program
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.mmzone import for_each_online_pgdat
from drgn.helpers.linux.percpu import per_cpu_ptr

from ..model.sums import PageCounter

__all__ = ("vmalloc_pages",)


def vmalloc_pages(prog: Program) -> Optional[PageCounter]:
    """Read the counter; None if this kernel has none that is known."""
    # Since Linux kernel commit "mm: vmalloc: streamline vmalloc memory accounting"
    # (in v7.2 at the latest), it is a statistic of each node.
    try:
        item = prog.constant("NR_VMALLOC").value_()
    except LookupError:
        return _global_counter(prog)
    pages = prog["vm_node_stat"][item].counter.value_()
    return PageCounter("NR_VMALLOC", pages, _pending(prog, item))


def _global_counter(prog: Program) -> Optional[PageCounter]:
    try:
        pages = prog["nr_vmalloc_pages"].counter.value_()
    except KeyError:
        return None
    return PageCounter("nr_vmalloc_pages", pages, 0)


def _pending(prog: Program, item: int) -> int:
    """Sum what CPUs counted by themselves (struct per_cpu_nodestat)."""
    return sum(
        per_cpu_ptr(pgdat.per_cpu_nodestats, cpu).vm_node_stat_diff[item].value_()
        for pgdat in for_each_online_pgdat(prog)
        for cpu in for_each_online_cpu(prog)
    )
