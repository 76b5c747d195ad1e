# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Per-CPU memory
--------------

Beside what the kernel image has, per-CPU memory comes in chunks (mm/percpu.c), each with
an area for each group of CPUs.
"""

from dataclasses import replace
from typing import Iterator, List, Tuple

from ...._numpy import np
from ....errors import SymbolsError
from ....model.owners import Owner, OwnerKind
from ....model.sums import PercpuMemory
from ...target import Target
from ...types.structs import (
    need_offset,
    pointer_dtype,
    pointer_members,
    record_dtype,
    type_size,
)
from ..lists import walk_list
from .busy import NONE, Claim
from .search import Search

__all__ = ("percpu_chunks", "percpu_memory")

_NO_RECORDS = ("base_addr", "data")
_MAX_SLOTS = 128
_MAX_GROUPS = 4096
_MAX_UNITS = 1 << 14
_CHUNK = {
    "free_bytes": "free_bytes",
    "base_addr": "base_addr",
    "data": "data",
    "nr_pages": "nr_pages",
    "nr_populated": "nr_populated",
    "start_offset": "start_offset",
    "end_offset": "end_offset",
}


def percpu_chunks(search: Search) -> Iterator[Claim]:
    """Yield the chunks that areas belong to."""
    target = search.target
    word = pointer_dtype(target.prog)
    dtype = record_dtype(target.prog, "struct pcpu_chunk", _CHUNK)
    groups = _number(target, "pcpu_nr_groups", _MAX_GROUPS)
    addresses = np.array(_chunks(target), np.uint64)
    records, ok = target.memory.records(addresses, dtype)
    for at in np.flatnonzero(ok & (records["data"] != 0)).tolist():
        chunk = records[at]
        size = int(chunk["nr_pages"]) * target.page_size
        vms = target.memory.array(int(chunk["data"]), groups, word).astype(np.uint64)
        # Each unit of a chunk has the same bytes in use: one for each CPU.
        detail = (
            f"{size - int(chunk['free_bytes'])} of {size} bytes a CPU in use, "
            f"{chunk['nr_populated']} of {chunk['nr_pages']} pages there"
        )
        owner = Owner(
            OwnerKind.PERCPU,
            f"chunk {addresses[at]:#x}",
            None,
            detail,
            "pcpu_chunk.data",
        )
        for row in search.busy.of_vm(vms).tolist():
            if row != NONE:
                yield row, owner
        for proof, pointer in _records(target, int(addresses[at])):
            for _, row in search.busy.pairs(np.array([pointer], np.uint64)):
                yield row, replace(owner, detail="what is known of it", proof=proof)


def percpu_memory(target: Target) -> PercpuMemory:
    """
    Sum up per-CPU memory, beside the kernel's own count of it.

    :raises SymbolsError: if this kernel counts none that is known.
    :raises Fault: if something of it cannot be read.
    """
    size = target.page_size
    units = _number(target, "pcpu_nr_units", _MAX_UNITS)
    start, end = (
        target.values.need(name, target.symbol_address(name))
        for name in ("__per_cpu_start", "__per_cpu_end")
    )
    first = {
        target.values.number(lambda p: p["pcpu_first_chunk"]) or 0,
        target.values.number(lambda p: p["pcpu_reserved_chunk"]) or 0,
    } - {0}
    dtype = record_dtype(target.prog, "struct pcpu_chunk", _CHUNK)
    others = sum(
        int(target.memory.record(address, dtype)["nr_populated"])
        for address in _chunks(target)
        if address not in first
    )
    # pcpu_setup_first_chunk() counts in whole pages what lies in one piece: the variables
    # of the image and the first chunks, whose ends are not where pages end.
    of_first = [target.memory.record(address, dtype) for address in sorted(first)]
    together = (end - start) % (1 << 64) + sum(
        int(chunk["nr_pages"]) * size
        - int(chunk["start_offset"])
        - int(chunk["end_offset"])
        for chunk in of_first
    )
    counted = target.values.number(lambda p: p["pcpu_nr_populated"])
    return PercpuMemory(
        target.values.need("pcpu_nr_populated", counted) * units,
        (together // size + others) * units,
    )


def _records(target: Target, chunk: int) -> Iterator[Tuple[str, int]]:
    """Yield where what is known of a chunk is kept, and what points there."""
    yield "pcpu_chunk_lists", chunk
    for member, offset in pointer_members(target.prog, "struct pcpu_chunk").items():
        if member not in _NO_RECORDS:
            yield f"pcpu_chunk.{member}", target.memory.pointer(chunk + offset)


def _chunks(target: Target) -> List[int]:
    """
    Return the address of each chunk.

    :raises SymbolsError: if where they are is not known.
    :raises Fault: if that cannot be read.
    """
    values, prog = target.values, target.prog
    first = values.need(
        "pcpu_chunk_lists", values.number(lambda p: p["pcpu_chunk_lists"])
    )
    slots = _number(target, "pcpu_nr_slots", _MAX_SLOTS)
    head = type_size(prog, "struct list_head")
    assert head is not None
    offset = need_offset(prog, "struct pcpu_chunk", "list")
    # Since Linux kernel commit 3c7be18ac9a0 ("mm: memcg/percpu: account percpu memory to
    # memory cgroups") (in v5.9), and for a while, each kind of chunk has its lists.
    kinds = values.number(lambda p: p.constant("PCPU_NR_CHUNK_TYPES")) or 1
    slots = min(slots * kinds, _MAX_SLOTS)
    return [
        (link - offset) % (1 << 64)
        for slot in range(slots)
        for link in walk_list(target.memory, first + slot * head, target.live)[0]
    ]


def _number(target: Target, name: str, most: int) -> int:
    found = target.values.need(name, target.values.number(lambda p: p[name]))
    if not 0 < found <= most:
        raise SymbolsError(f"{name} is {found}, which cannot be")
    return found
