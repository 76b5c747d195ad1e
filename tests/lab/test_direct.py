# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Direct reads: on each kernel, drgn itself reads what the fixture module wrote, where its
/proc/kcore returns zeros or another page.
"""

from __future__ import annotations

from typing import Any, Iterator

import pytest
from drgn import Program
from drgn.helpers.linux.mm import follow_phys

from tests.expect.direct import (
    READS,
    expect_all_equal,
    expect_every_page,
    expect_off,
    expect_what_is_not_there,
    expect_what_others_do,
    expect_what_was_right,
    read_in_each_way,
    run,
)

from .guest import Guest
from .kernels import KERNELS
from .marks import on_all_kernels, slow
from .stress import stress
from .truth import Truth
from .vmcore import Vmcore

pytestmark = on_all_kernels

STRESS_SECONDS = 10
TABLE_SHIFTS = (39, 30, 21, 12)
"""Of the tables of x86-64, topmost first: what an entry maps, as a power of two."""


@pytest.fixture(scope="module", autouse=True)
def real_addresses(module_guest: Guest) -> Iterator[None]:
    """Let /proc/vmallocinfo show them."""
    with module_guest.real_addresses():
        yield


@pytest.fixture(scope="module")
def found(module_guest: Guest) -> Any:
    """What each way of reading made of the module's mappings."""
    return read_in_each_way(module_guest)


def test_every_page(found: Any, module_guest: Guest) -> None:
    """Each page of each mapping comes back as the module wrote it; few did before."""
    expect_every_page(found, module_guest.kernel.name)


def test_what_others_do(found: Any, module_guest: Guest) -> None:
    """A list, a struct and a string in a block are right for drgn's own helpers."""
    expect_what_others_do(found, module_guest.kernel.name)


def test_what_is_not_there(found: Any) -> None:
    """What was freed is a fault, and so is a device's memory."""
    expect_what_is_not_there(found)


def test_what_was_right(found: Any, module_guest: Guest) -> None:
    """Modules are as before, and per-CPU memory as memory has it, to its last page."""
    # Small ones may do with the first chunk, which is not in vmalloc space, or have another
    # of which no page is mapped.
    has_pages = module_guest.kernel.name in KERNELS
    expect_what_was_right(module_guest, found, has_pages)


def test_off(found: Any) -> None:
    """Once off, all is as it was, and once on again, as before that."""
    expect_off(found)


def leaf_shift(prog: Program, address: int) -> int:
    """Return how much the entry that maps an address maps, as a power of two."""
    init_mm = prog["init_mm"]
    table = follow_phys(init_mm.address_of_(), init_mm.pgd).value_()
    for shift in TABLE_SHIFTS[:-1]:
        at = table + (address >> shift) % 512 * 8
        entry = prog.read_u64(at, physical=True)
        assert entry & 1, hex(address)
        if entry & 1 << 7:
            return shift
        table = entry & (1 << 52) - 4096
    return TABLE_SHIFTS[-1]


def test_large_leaves(vmcores: dict[str, Vmcore]) -> None:
    """
    What vmalloc_huge() made is mapped 2 MiB at a time, so that all tests of what the
    module mapped, page for page and line for line, are tests of such leaves as well.
    """
    vmcore = vmcores["elf"]
    prog = Program()
    prog.set_core_dump(vmcore.path)
    prog.load_debug_info([vmcore.kernel.vmlinux])
    truth = Truth.parse(vmcore.truth.decode())
    huge = [one for one in truth.mappings if one.kind == "vmalloc_huge"]
    assert bool(huge) == ("vmalloc_huge" not in truth.absent)
    for one in huge:
        starts = range(one.address, one.address + one.pages * 4096, 1 << 21)
        assert [leaf_shift(prog, start) for start in starts] == [21, 21]


@slow
def test_check(module_guest: Guest) -> None:
    """check --through drgn finds all equal once reads are direct, and not before."""
    expect_all_equal(module_guest, module_guest.kernel.name)


def test_read(module_guest: Guest) -> None:
    """vmap read shows a mapping in a block as the module wrote it."""
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    one = next(
        m
        for m in truth.mappings
        if m.live and m.area == "block" and m.pages > 2 and m.address % 2**20
    )
    args = f"{one.address + 4096:x} --length 4K --json"
    found = run(module_guest, f"scripts/vmap_read.py {args}")
    [piece] = found["pieces"]
    word = 0xA5 << 56 | (one.fill or 0) << 32 | 1 << 16
    assert (
        piece["data"][:32]
        == b"".join((word + i).to_bytes(8, "little") for i in range(2)).hex()
    )
    assert len(piece["data"]) == 2 * 4096


@slow
@pytest.mark.kernels(*KERNELS)
def test_under_stress(module_guest: Guest) -> None:
    """What goes away meanwhile is a FaultError and nothing else; what stays is right."""
    with stress(module_guest):
        found = run(module_guest, f"{READS} {STRESS_SECONDS}")
    assert set(found["raised"]) <= {"none", "FaultError"}
    assert found["raised"]["none"] > 10
    assert (found["reads"] > 3, found["wrong"]) == (True, 0)
