# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Tables of open files
--------------------

What a process can open many files with (fs/file.c): kvmalloc() makes these tables.
"""

from typing import Iterator

from ...._numpy import np
from ....model.owners import Owner, OwnerKind
from ...types.structs import need_offset, pointer_dtype, record_dtype
from .busy import Claim
from .search import Search

__all__ = ("fd_tables",)

_MEMBERS = {"fd": "fd", "open_fds": "open_fds", "max_fds": "max_fds"}


def fd_tables(search: Search) -> Iterator[Claim]:
    """Yield the processes whose tables of open files areas are."""
    tasks, target = search.tasks, search.target
    # Threads share one: that of the thread with the lowest PID names it.
    order = np.argsort(tasks.pid, kind="stable")
    files, first = np.unique(tasks.files[order], return_index=True)
    of_task = order[first][files != 0]
    files = files[files != 0]
    word = pointer_dtype(target.prog)
    offset = np.uint64(need_offset(target.prog, "struct files_struct", "fdt"))
    tables, ok = target.memory.records(files + offset, word)
    tables, of_task = tables[ok].astype(np.uint64), of_task[ok]
    dtype = record_dtype(target.prog, "struct fdtable", _MEMBERS)
    records, ok = target.memory.records(tables, dtype)
    for member in ("fd", "open_fds"):
        pointers = np.where(ok, records[member], 0).astype(np.uint64)
        for at, row in search.busy.pairs(pointers):
            task = int(of_task[at])
            yield row, Owner(
                OwnerKind.FDTABLE,
                tasks.name(task),
                int(tasks.pid[task]),
                f"open files, room for {records['max_fds'][at]}",
                f"fdtable.{member}",
            )
