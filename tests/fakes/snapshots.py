# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Snapshots made by hand, for tests of what is concluded from them."""

from dataclasses import fields, replace
from typing import Any, Dict, Mapping, Sequence, Tuple

from drgn_vmap._numpy import np
from drgn_vmap.model.areas import AreaTable, Kernel, Snapshot, State, VmallocinfoRules
from drgn_vmap.model.owners import Owner

__all__ = ("BASE", "KERNEL", "PAGE", "area", "snapshot_of")

PAGE = 4096
#: Where the addresses of hand-made areas begin.
BASE = 0xFFFFC90000000000

KERNEL = Kernel(
    release="6.12-test",
    layout="E",
    live=False,
    symbols="dwarf",
    page_size=PAGE,
    word_size=8,
    has_va_flags=True,
    has_nodes=True,
    numa_nodes=(0, 1),
    rules=VmallocinfoRules(
        per_node=True,
        ram_by_flag=True,
        uninitialized_listed=False,
        lazy_by_flag=False,
        lazy_after_vm_only=False,
        sparse_label=True,
        phys_digits=16,
    ),
)

_TRUTHS = {"is_block", "vm_ok", "vpages"}


def area(page: int, pages: int, state: State = State.BUSY, **columns: Any) -> Any:
    """
    Return a row for :func:`snapshot_of`: an area of so many pages from BASE on.

    It has a vm_struct if it has ``flags``; a column not given is zero.
    """
    start, size = BASE + page * PAGE, pages * PAGE
    row = {"start": start, "end": start + size, "state": int(state), "vmap_node": 0}
    if "flags" in columns:
        row.update(vm=0xFFFF888000000000 + page, vm_ok=True, addr=start, vm_size=size)
    return {**row, "numa_pages": (0, 0), **columns}


def snapshot_of(
    rows: Sequence[Mapping[str, Any]],
    callers: Mapping[int, str] = {},
    owners: Sequence[Tuple[Owner, ...]] = (),
    **kernel: Any,
) -> Snapshot:
    """Return the snapshot of a kernel with these areas."""
    columns: Dict[str, Any] = {
        field.name: np.array(
            [row.get(field.name, 0) for row in rows],
            bool if field.name in _TRUTHS else _number_type(field.name),
        )
        for field in fields(AreaTable)
    }
    return Snapshot(
        replace(KERNEL, **kernel),
        AreaTable(**columns),
        callers,
        owners=((), *owners),
    )


def _number_type(column: str) -> type:
    return {"vmap_node": np.int16, "owners": np.int64}.get(column, np.uint64)
