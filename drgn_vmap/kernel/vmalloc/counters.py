# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Counters
--------

What the kernel itself counts and /proc/meminfo shows: the pages that vmalloc allocated,
VmallocUsed there, and all of RAM, MemTotal.
"""

from typing import Optional

from drgn.helpers.linux.percpu import per_cpu_ptr

from ...model.sums import PageCounter
from ..memory.cpus import online_cpus
from ..memory.frames import node_data, nodes_in
from ..target import Target

__all__ = ("ram_bytes", "vmalloc_pages")


def ram_bytes(target: Target) -> Optional[int]:
    """
    Return the bytes of RAM that the kernel manages, None if it is not known.

    :raises Fault: if that cannot be read.
    """
    pages = target.values.number(lambda prog: prog["_totalram_pages"].counter)
    return pages * target.page_size if pages and pages > 0 else None


def vmalloc_pages(target: Target) -> Optional[PageCounter]:
    """
    Read the counter; None if this kernel has none that is known.

    :raises Fault: if it cannot be read.
    """
    # Since Linux kernel commit b9ec0ed90706 ("mm: vmalloc: streamline vmalloc memory
    # accounting") (in v7.1), it is a statistic of each node.
    item = target.values.number(lambda prog: prog.constant("NR_VMALLOC"))
    if item is None:
        return _global_counter(target)
    pages = target.values.number(lambda prog: prog["vm_node_stat"][item].counter)
    if pages is None:
        return None
    return PageCounter("NR_VMALLOC", pages, _pending(target, item), _tags(target))


def _global_counter(target: Target) -> Optional[PageCounter]:
    pages = target.values.number(lambda prog: prog["nr_vmalloc_pages"].counter)
    if pages is None:
        return None
    return PageCounter("nr_vmalloc_pages", pages, 0, _tags(target))


def _tags(target: Target) -> int:
    """
    Return the address of the vm_struct of modules' allocation tags, 0 if there is none.

    With CONFIG_MEM_ALLOC_PROFILING, lib/alloc_tag.c fills it page by page, by itself.
    """
    return target.values.number(lambda prog: prog["vm_module_tags"]) or 0


def _pending(target: Target, item: int) -> int:
    """Sum what CPUs counted by themselves (struct per_cpu_nodestat)."""
    return sum(
        target.values.number(
            lambda prog: per_cpu_ptr(
                node_data(prog, node).per_cpu_nodestats, cpu
            ).vm_node_stat_diff[item]
        )
        or 0
        for node in nodes_in(target.values, "N_ONLINE")
        for cpu in online_cpus(target.values)
    )
