# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What vm_structs say of addresses where the page table says nothing, from records made by
hand; in the lab it is seen on a vmcore of ppc64 with the hash MMU.
"""

from typing import Any, List, Optional

import pytest
from drgn import FaultError, Program

from drgn_vmap._numpy import np
from drgn_vmap.kernel.memory import ppc64
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.vmalloc import area_pages
from drgn_vmap.kernel.vmalloc.area_pages import AreaPages, NamedPages
from drgn_vmap.model.areas import ProblemKind, State, vm_flag
from drgn_vmap.model.translation import Translation
from tests.fakes.kernel import LITTLE_ENDIAN, FakeKernel
from tests.fakes.snapshots import BASE, PAGE, area, snapshot_of

VM_ALLOC, VM_MAP = int(vm_flag("VM_ALLOC")), int(vm_flag("VM_MAP"))
VM_IOREMAP, VM_NO_GUARD = int(vm_flag("VM_IOREMAP")), int(vm_flag("VM_NO_GUARD"))
FRAMES = 0x4000000

SNAPSHOT = snapshot_of(
    [
        area(0, 5, flags=VM_ALLOC, nr_pages=4),
        area(10, 3, flags=VM_IOREMAP, phys_addr=0xFE001234),
        area(20, 2, flags=VM_IOREMAP | VM_NO_GUARD, phys_addr=0xFF000000),
        area(30, 3, flags=VM_MAP),
        area(40, 4, va_flags=1),
        area(50, 3, State.LAZY),
    ]
)


@pytest.fixture(autouse=True)
def page_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each area's page frames follow one another, as many pages behind FRAMES as it."""

    def named(target: Any, areas: Any, row: Any, index: Any) -> Any:
        phys = areas.start[row] - np.uint64(BASE - FRAMES) + index * np.uint64(PAGE)
        return NamedPages(phys, phys, np.ones(len(row), bool))

    monkeypatch.setattr(area_pages, "named_pages", named)


def told_of(pages: List[int], known: bool = False) -> List[Optional[int]]:
    """Return the physical addresses of bytes of pages behind BASE."""
    addresses = np.array([BASE + page * PAGE + 8 for page in pages], np.uint64)
    none = np.zeros(len(pages), bool)
    found = Translation(np.zeros(len(pages), np.uint64), none, none | known)
    target = Target(FakeKernel([]).program())
    completed, told = AreaPages(target, SNAPSHOT).complete(addresses, found)
    assert completed.present.tolist() == told.tolist()
    assert completed.known.tolist() == (told | known).tolist()
    return [
        phys if is_told else None
        for phys, is_told in zip(completed.phys.tolist(), told.tolist())
    ]


def test_page_arrays() -> None:
    """The array of pages tells of as many pages as it has, not of the guard."""
    assert told_of([0, 3, 4]) == [FRAMES + 8, FRAMES + 3 * PAGE + 8, None]


def test_ioremap() -> None:
    """The physical address is that of the first page; a guard has none."""
    assert told_of([10, 11, 12]) == [0xFE001008, 0xFE002008, None]
    assert told_of([20, 21, 22]) == [0xFF000008, 0xFF001008, None]


def test_what_nothing_tells() -> None:
    """Of pages given to vmap(), of vm_map_ram(), of freed and of no areas."""
    assert told_of([30, 41, 50, 9, 100]) == [None] * 5


def test_page_table_comes_first() -> None:
    """What the page table tells stays as it is."""
    assert told_of([0, 10], known=True) == [None, None]


def test_hash_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known, one problem says so, and reads fault as unreadable memory does."""
    monkeypatch.setattr(ppc64, "_is_refused", lambda prog: True)
    prog = FakeKernel([], platform=LITTLE_ENDIAN).program()
    table = Target(prog).page_table
    for _ in range(2):
        found = table.translate(np.array([BASE, BASE + PAGE], np.uint64))
        assert not found.known.any() and not found.present.any()
        [problem] = found.problems
    assert problem.what == ProblemKind.UNSUPPORTED and "hash table" in problem.detail
    prog = Program(LITTLE_ENDIAN)
    prog.add_memory_segment(0, 1 << 20, lambda *_: b"physical", physical=True)
    ppc64.read_linear_only(prog)
    assert prog.read(ppc64.LINEAR_START + 0x1000, 8) == b"physical"
    for address in (0, 1 << 20, ppc64.LINEAR_START + (1 << 20), BASE):
        with pytest.raises(FaultError, match="hash table") as raised:
            prog.read(address, 8)
        assert raised.value.address == address
