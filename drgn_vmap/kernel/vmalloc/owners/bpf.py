# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
BPF
---

Programs and maps, by the kernel's own tables of them (kernel/bpf/syscall.c). Compiled
code of several small programs may share an area.
"""

from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from ...._numpy import Array, Record, U64Array, np
from ....model.owners import Owner, OwnerKind
from ....model.sums import JitMemory
from ...doors import door
from ...target import Target
from ...types.structs import (
    find_type,
    pointer_dtype,
    pointer_members,
    record_dtype,
)
from .busy import Claim
from .idr import idr_entries
from .search import Search

__all__ = ("bpf_maps", "bpf_programs", "jit_memory")

_SYSCALL_C = "kernel/bpf/syscall.c"
_TAG_BYTES = 8
_MAX_FUNCTIONS = 4096
"""More than a program may have (BPF_MAX_SUBPROGS is 256)."""

_PROGRAM = {"aux": "aux", "bpf_func": "bpf_func", "type": "type", "tag": "tag[]"}
_AUX = {"id": "id", "name": "name[]", "func": "func", "func_cnt": "func_cnt"}
_MAP = {"id": "id", "name": "name[]", "map_type": "map_type"}

_CONTAINERS = {
    "struct bpf_htab": ("HASH", "PERCPU_HASH", "LRU_HASH", "LRU_PERCPU_HASH")
    + ("HASH_OF_MAPS",),
    "struct bpf_stack_map": ("STACK_TRACE",),
    "struct bpf_ringbuf_map": ("RINGBUF", "USER_RINGBUF"),
    "struct bpf_stab": ("SOCKMAP",),
    "struct bpf_shtab": ("SOCKHASH",),
    "struct bpf_dtab": ("DEVMAP", "DEVMAP_HASH"),
    "struct bpf_cpu_map": ("CPUMAP",),
    "struct bpf_arena": ("ARENA",),
    "struct bpf_local_storage_map": ("SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE")
    + ("CGRP_STORAGE",),
}
"""What a ``struct bpf_map`` is the first member of, where that points at areas."""


def bpf_programs(search: Search) -> Iterator[Claim]:
    """Yield the programs whose instructions or compiled code areas are."""
    target, memory = search.target, search.target.memory
    dtype = record_dtype(target.prog, "struct bpf_prog", _PROGRAM)
    aux_type = record_dtype(target.prog, "struct bpf_prog_aux", _AUX)
    types = _enumerators(target, "enum bpf_prog_type", "BPF_PROG_TYPE_")
    programs = _entries(target, "prog_idr")
    records, ok = memory.records(programs, dtype)
    aux, aux_ok = memory.records(np.where(ok, records["aux"], 0).astype("u8"), aux_type)
    there = np.flatnonzero(ok & aux_ok)
    # Programs that share an area are told in the same order each time.
    for at in there[np.argsort(aux["id"][there])].tolist():
        tag = records["tag"][at].tobytes()[:_TAG_BYTES].hex()
        kind = types.get(int(records["type"][at]), f"type {records['type'][at]}")
        name, id_ = _text(aux["name"][at]), int(aux["id"][at])
        parts = np.append(programs[at : at + 1], _functions(target, aux[at]))
        for member, pointers in (
            ("prog_idr", parts),
            ("bpf_prog.bpf_func", _code(target, parts, dtype)),
        ):
            what = "compiled code" if member.endswith("func") else "instructions"
            owner = Owner(
                OwnerKind.BPF_PROGRAM, name, id_, f"{kind}, tag {tag}, {what}", member
            )
            for _, row in search.busy.pairs(pointers):
                yield row, owner


def _functions(target: Target, aux: Array) -> U64Array:
    """Return the programs that a program's functions are."""
    word = pointer_dtype(target.prog)
    count = int(aux["func_cnt"])
    if not aux["func"] or not 0 < count <= _MAX_FUNCTIONS:
        return np.empty(0, np.uint64)
    return target.memory.array(int(aux["func"]), count, word).astype(np.uint64)


def _code(target: Target, programs: U64Array, dtype: Record) -> U64Array:
    records, ok = target.memory.records(programs, dtype)
    return records["bpf_func"][ok].astype(np.uint64)


def jit_memory(target: Target) -> Optional[JitMemory]:
    """
    Return what compiled programs take, and may; None if it is not known.

    :raises Fault: if it cannot be read.
    """
    values = target.values
    counted = values.number(lambda prog: prog["bpf_jit_current"].counter)
    limit = values.number(lambda prog: prog["bpf_jit_limit"])
    if counted is None or limit is None:
        return None
    # Since Linux kernel commit 3486bedd9919 ("bpf: Use bytes instead of pages for
    # bpf_jit_[charge|uncharge]_modmem") (in v5.17).
    with door():
        charge = target.prog.function("bpf_jit_charge_modmem").type_
        in_pages = any(one.name == "pages" for one in charge.parameters)
    return JitMemory(counted * (target.page_size if in_pages else 1), limit)


def bpf_maps(search: Search) -> Iterator[Claim]:
    """Yield the maps whose elements areas are."""
    target, memory = search.target, search.target.memory
    dtype = record_dtype(target.prog, "struct bpf_map", _MAP)
    types = _enumerators(target, "enum bpf_map_type", "BPF_MAP_TYPE_")
    maps = _entries(target, "map_idr")
    records, ok = memory.records(maps, dtype)
    owners = [
        Owner(
            OwnerKind.BPF_MAP,
            _text(record["name"]),
            int(record["id"]),
            types.get(int(record["map_type"]), f"type {record['map_type']}"),
        )
        for record in records
    ]
    for proof, some, pointers in _map_pointers(target, maps, owners):
        for at, row in search.busy.pairs(pointers):
            owner = owners[some[at]]
            if ok[some[at]]:
                yield row, Owner(owner.kind, owner.name, owner.id, owner.detail, proof)


def _map_pointers(
    target: Target, maps: U64Array, owners: Sequence[Owner]
) -> Iterator[Tuple[str, List[int], U64Array]]:
    """Yield what points at areas, the maps that have it, and where it points."""
    yield "map_idr", [*range(len(maps))], maps
    word = pointer_dtype(target.prog)
    for name, kinds in _CONTAINERS.items():
        wanted = {kind.lower() for kind in kinds}
        some = [at for at, owner in enumerate(owners) if owner.detail in wanted]
        members = pointer_members(target.prog, name) if some else {}
        for member, offset in members.items():
            found, ok = target.memory.records(maps[some] + np.uint64(offset), word)
            pointers = np.where(ok, found, 0).astype(np.uint64)
            yield f"{name[7:]}.{member}", some, pointers


def _entries(target: Target, name: str) -> U64Array:
    """
    Return what one of BPF's tables has.

    :raises SymbolsError: if there is none of this name.
    """
    values = target.values
    return idr_entries(target, values.need(name, values.address(name, _SYSCALL_C)))


def _enumerators(target: Target, name: str, prefix: str) -> Dict[int, str]:
    """Return the words for the values of an enum."""
    found = find_type(target.prog, name)
    with door():
        return {
            int(one.value): one.name[len(prefix) :].lower()
            for one in reversed((found and found.enumerators) or ())
            if one.name.startswith(prefix)
        }


def _text(raw: Array) -> str:
    return raw.tobytes().partition(b"\0")[0].decode("utf-8", "backslashreplace")
