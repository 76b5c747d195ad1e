# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Files that end too early
------------------------

Of a kdump file that is cut short, libkdumpfile reads zeros where pages should be that were
not compressed: a list would seem empty, and a struct damaged. Here they are no memory.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Iterable, Optional

from drgn import FaultError, Program, ProgramFlags

from ...errors import TargetError
from ..types.carried import carried_by
from .kdump_files import SENSELESS, KdumpFile

if TYPE_CHECKING:
    from .address_space import Reader

__all__ = ("hide_what_is_cut_off",)

_KEY = "drgn_vmap cut"
_END = (1 << 64) - 1


def hide_what_is_cut_off(
    prog: Program,
    files: Iterable[str],
    page_table_reader: "Callable[[Program], Reader]",
) -> None:
    """
    Have reads of what a file should have behind its end be faults, once.

    :param page_table_reader: Returns what reads virtual memory by the kernel's page table;
        raises TargetError if that cannot be.
    """
    if prog.flags & ProgramFlags.IS_LIVE or _KEY in prog.cache:
        return
    prog.cache[_KEY] = True
    frame = next(filter(None.__ne__, map(_lost_from, files)), None)
    page_size = carried_by(prog).vmcoreinfo.page_size
    if frame is None or page_size is None:
        return
    start = frame * page_size

    def refuse(address: int, count: int, offset: int, physical: bool) -> bytes:
        raise FaultError("behind the end of the vmcore", address)

    prog.add_memory_segment(start, _END - start, refuse, physical=True)
    # libkdumpfile would look virtual addresses up by itself, and read zeros.
    try:
        reader = page_table_reader(prog)
    except TargetError:
        reader = refuse
    prog.add_memory_segment(0, _END, reader)


def _lost_from(name: str) -> Optional[int]:
    with suppress(*SENSELESS), open(name, "rb") as file:
        return KdumpFile(file.fileno()).lost_from()
    return None
