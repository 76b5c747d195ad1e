# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Execmem
-------

Where memory for code and for modules is allocated from (mm/execmem.c), since Linux kernel
commit 12af2b83d0b1 ("mm: introduce execmem_alloc() and execmem_free()") (in v6.10).
"""

from typing import Optional, Tuple

from ...model.space import Gap
from ..doors import door
from ..target import Target
from ..types.structs import member_offset, need_offset, record_dtype
from .maple_trees import maple_ranges

__all__ = ("cached_ranges", "execmem_ranges")

_MEMBERS = (("start", "end"), ("fallback_start", "fallback_end"))


def execmem_ranges(target: Target) -> Optional[Tuple[Tuple[int, int], ...]]:
    """
    Return the ranges that modules' memory is looked for in, in this order: first bytes and
    those behind the last ones. None if there are none, or nothing tells.

    :raises Fault: if that cannot be read.
    """
    # Since Linux kernel commit 223b5e57d0d5 ("mm/execmem, arch: convert remaining
    # overrides of module_alloc to execmem") (in v6.10).
    with door():
        places = {int(one.address) for one in target.prog.symbols("execmem_info")}
    # A pointer has this name, and on most architectures also what it points to.
    pointers = [target.memory.pointer(place) for place in sorted(places)]
    found = [pointer for pointer in pointers if pointer in places or len(places) == 1]
    if len(found) != 1:
        return None
    first = found[0] + need_offset(target.prog, "struct execmem_info", "ranges")
    members = {name: name for pair in _MEMBERS for name in pair}
    dtype = record_dtype(target.prog, "struct execmem_range", members)
    range_, size = target.memory.record(first, dtype), target.page_size
    pairs = [(int(range_[start]), int(range_[end])) for start, end in _MEMBERS]
    # Some give the last byte, others the one behind it; most have no fallback.
    return (
        tuple((start, -(-end // size) * size) for start, end in pairs if start) or None
    )


def cached_ranges(target: Target) -> Tuple[Gap, ...]:
    """
    Return what execmem keeps for the next code, by address. It is in areas that are in use.

    :raises Fault: if that cannot be read.
    """
    # Since Linux kernel commit 2e45474ab14f ("execmem: add support for cache of large ROX
    # pages") (in v6.13).
    cache = target.values.address("execmem_cache", "mm/execmem.c")
    offset = member_offset(target.prog, "struct execmem_cache", "free_areas")
    if cache is None or offset is None:
        return ()
    found = maple_ranges(target, cache + offset)
    return tuple(sorted(Gap(one.first, one.last + 1) for one in found))
