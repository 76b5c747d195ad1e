# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Vmcores of riscv, whose page tables drgn does not know: virtual memory is read by those in
memory, laid out here as the privileged architecture has them (Sv39).
"""

from __future__ import annotations

import struct

import pytest
from drgn import Architecture, FaultError, Platform, Program

from drgn_vmap.kernel.memory.direct import page_table_reader
from drgn_vmap.kernel.memory.own_tables import read_by_page_table

RISCV = Platform(Architecture.RISCV64)
RAM, PAGE = 0x80000000, 4096
IMAGE = 0xFFFFFFFF80000000
ROOT, MIDDLE, LAST, DATA = (RAM + n * PAGE for n in range(4))
LINEAR, VMALLOC = 0xFFFFFFD600000000, 0xFFFFFFC800000000
V, RWX = 1, 0xE
VMCOREINFO = f"""OSRELEASE=6.12.0-fake
PAGESIZE=4096
SYMBOL(swapper_pg_dir)={IMAGE:x}
NUMBER(VA_BITS)=39
"""
OFFSET = f"NUMBER(va_kernel_pa_offset)={IMAGE - RAM:#x}\n"


def program(vmcoreinfo: str, is_live: bool = False) -> Program:
    """Return one of a kernel with a page at VMALLOC, and 1 GiB of RAM at LINEAR."""
    memory = bytearray(3 * PAGE) + b"in vmalloc space".ljust(PAGE, b".")

    def entry(table: int, index: int, phys: int, marks: int) -> None:
        struct.pack_into("<Q", memory, table - RAM + 8 * index, phys >> 2 | V | marks)

    entry(ROOT, LINEAR >> 30 & 511, RAM, RWX)
    entry(ROOT, VMALLOC >> 30 & 511, MIDDLE, 0)
    entry(MIDDLE, 0, LAST, 0)
    entry(LAST, 1, DATA, RWX)
    prog = Program(RISCV)
    prog.add_memory_segment(
        RAM,
        len(memory),
        lambda at, count, *_: bytes(memory[at - RAM :][:count]),
        physical=True,
    )
    prog.set_linux_kernel_custom(vmcoreinfo.encode(), is_live=is_live)
    return prog


def test_reads() -> None:
    """What is mapped is read where it is, by drgn as well; all else is a fault."""
    prog = program(VMCOREINFO + OFFSET)
    with pytest.raises(FaultError):
        prog.read(VMALLOC + PAGE, 16)
    read_by_page_table(prog, page_table_reader)
    assert prog.read(VMALLOC + PAGE, 16) == b"in vmalloc space"
    assert prog.read(LINEAR + DATA - RAM, 16) == b"in vmalloc space"
    for nowhere in (VMALLOC, VMALLOC + 2 * PAGE, 1 << 39, LINEAR + (1 << 30)):
        with pytest.raises(FaultError):
            prog.read(nowhere, 16)


@pytest.mark.parametrize(
    "vmcoreinfo, is_live",
    [(VMCOREINFO, False), (VMCOREINFO + OFFSET, True)],
    ids=["nothing tells where the table is", "it runs, and reads by itself"],
)
def test_left_alone(vmcoreinfo: str, is_live: bool) -> None:
    """A program stays as it is."""
    prog = program(vmcoreinfo, is_live)
    read_by_page_table(prog, page_table_reader)
    with pytest.raises(FaultError, match="could not find memory segment"):
        prog.read(VMALLOC + PAGE, 16)
