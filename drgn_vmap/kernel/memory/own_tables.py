# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Own tables
----------

What drgn reads where it knows no page tables, as of riscv: of a vmcore no more than its
program headers map, which is not the kernel image, nor vmalloc space. Where they are known
here, drgn has to read by these.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Callable

from drgn import Program, ProgramFlags

from ..._drgn import follow_page_table
from ...errors import TargetError
from ..doors import UNREADABLE

if TYPE_CHECKING:
    from .address_space import Reader

__all__ = ("read_by_page_table",)

_KEY = "drgn_vmap own tables"
_END = (1 << 64) - 1


def read_by_page_table(
    prog: Program, page_table_reader: "Callable[[Program], Reader]"
) -> None:
    """
    Have virtual memory of a vmcore read by the kernel's page table, where drgn knows none,
    once. A running kernel translates addresses itself, in /proc/kcore.

    :param page_table_reader: Returns what reads so; raises TargetError if that cannot be.
    """
    if prog.flags & ProgramFlags.IS_LIVE or _KEY in prog.cache or _knows_tables(prog):
        return
    prog.cache[_KEY] = True
    with suppress(TargetError):
        prog.add_memory_segment(0, _END, page_table_reader(prog))


def _knows_tables(prog: Program) -> bool:
    try:
        follow_page_table(prog, 0, 0)
    except NotImplementedError:
        return False
    except (LookupError, *UNREADABLE):
        pass
    return True
