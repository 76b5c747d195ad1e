# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Damaged memory: what can be read is shown, what can't is named, nothing hangs.

What the fake kernel holds is the truth; each test damages it in one way.
"""

from typing import List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drgn_vmap import Snapshot, describe, take_snapshot
from drgn_vmap.analyses.vmallocinfo import listed_rows
from drgn_vmap.model.areas import State
from drgn_vmap.render.pointers import pointer_format
from drgn_vmap.render.proc import proc_lines
from tests.fakes.kernel import (
    AREA_WORDS,
    BASE,
    PAGE,
    VMALLOC_START,
    FakeArea,
    FakeKernel,
)

VM_ALLOC = 0x2
RAM = 0x1
BLOCK = 0x3


def kernel() -> FakeKernel:
    """A kernel with twelve vmalloc areas, one of vm_map_ram, one block, two lazy."""
    areas = [
        FakeArea(VMALLOC_START + 16 * PAGE * i, 2 + i, vm_flags=VM_ALLOC)
        for i in range(12)
    ]
    areas.append(FakeArea(VMALLOC_START + 16 * PAGE * 20, 100, va_flags=RAM))
    areas.append(FakeArea(VMALLOC_START + 16 * PAGE * 64, 1024, va_flags=BLOCK))
    lazy = [FakeArea(VMALLOC_START + 16 * PAGE * i, 3) for i in (14, 16)]
    return FakeKernel(areas, lazy)


def starts(snapshot: Snapshot, state: State = State.BUSY) -> List[int]:
    return [area.start for area in describe(snapshot) if area.state == state]


def test_healthy() -> None:
    """All areas are found, with the kinds they were made as, and no problem."""
    fake = kernel()
    snapshot = take_snapshot(fake.program())
    assert snapshot.problems == ()
    assert snapshot.kernel.layout == "D"
    assert snapshot.kernel.release == "6.5.0-fake"
    assert starts(snapshot) == [area.start for area in fake.areas]
    assert starts(snapshot, State.LAZY) == [area.start for area in fake.lazy]
    kinds = [area.kinds for area in describe(snapshot)]
    assert (
        kinds
        == [("vmalloc",)] * 12
        + [("vm_map_ram",), ("vmap_block",)]
        + [("unpurged",)] * 2
    )


def test_area_without_vm_and_flags_is_not_listed() -> None:
    """Since 6.3 such an area is being set up, and the kernel's file omits it."""
    fake = kernel()
    fake.memory[fake.word(fake.areas[12], "flags")] = 0
    snapshot = take_snapshot(fake.program())
    listed = snapshot.areas.start[listed_rows(snapshot)].tolist()
    assert fake.areas[12].start not in listed
    assert fake.areas[13].start in listed
    assert fake.areas[12].start in starts(snapshot)


@pytest.mark.parametrize("link", ["rb_left", "rb_right"])
def test_broken_tree_is_mended_from_the_list(link: str) -> None:
    """A child that cannot be read costs no area, as the list still has it."""
    fake = kernel()
    damaged = next(a for a in fake.areas if fake.memory[fake.word(a, link)])
    fake.memory[fake.word(damaged, link)] = 0xDEAD000000000100
    snapshot = take_snapshot(fake.program())
    assert starts(snapshot) == [area.start for area in fake.areas]
    assert [p.what for p in snapshot.problems] == ["unreadable"]
    assert "0xdead000000000100" in snapshot.problems[0].where


def test_circle_in_tree() -> None:
    """A child that is its own grandparent is named, and the walk ends."""
    fake = kernel()
    root = fake.memory[fake.variables["vmap_area_root"][1]]
    leaf = next(a for a in fake.areas if not fake.memory[fake.word(a, "rb_left")])
    fake.memory[fake.word(leaf, "rb_left")] = root
    snapshot = take_snapshot(fake.program())
    assert starts(snapshot) == [area.start for area in fake.areas]
    assert any(f"{root:#x}" in p.where for p in snapshot.problems)


def test_list_and_tree_both_broken() -> None:
    """What neither has is missing, and both breaks are named."""
    fake = kernel()
    root = fake.variables["vmap_area_root"][1]
    fake.memory[root] = 0xDEAD000000000100
    fake.memory[fake.word(fake.areas[4], "next")] = 0xDEAD000000000200
    snapshot = take_snapshot(fake.program())
    assert starts(snapshot) == [area.start for area in fake.areas[:5]]
    text = str(snapshot.problems)
    assert "0xdead000000000100" in text and "0xdead000000000200" in text


def test_lost_vm_struct() -> None:
    """An area whose vm_struct is unreadable is listed, and its line says so."""
    fake = kernel()
    fake.memory[fake.word(fake.areas[3], "vm")] = 0xDEAD000000000100
    snapshot = take_snapshot(fake.program())
    rows = listed_rows(snapshot)
    text = "".join(proc_lines(snapshot, rows, pointer_format("raw", 8, None)))
    start, end = fake.areas[3].start, fake.areas[3].end
    assert text.splitlines()[3] == (
        f"0x{start:016x}-0x{end:016x} {end - start:7d} vm_struct unreadable"
    )
    assert snapshot.problems[0].where == "vm_struct 0xdead000000000100"


def test_foreign_vm_struct() -> None:
    """A vm_struct of another area is named."""
    fake = kernel()
    fake.memory[fake.word(fake.areas[3], "vm")] = fake.areas[4].vm
    snapshot = take_snapshot(fake.program())
    assert [p.where for p in snapshot.problems] == [f"vm_struct {fake.areas[4].vm:#x}"]


@pytest.mark.parametrize(
    "member, value",
    [("va_end", 0), ("va_start", VMALLOC_START + 1), ("va_start", 2**64 - PAGE)],
)
def test_impossible_area(member: str, value: int) -> None:
    """An area that ends before it starts, or inside a page, is left out and named."""
    fake = kernel()
    fake.memory[fake.word(fake.areas[3], member)] = value
    snapshot = take_snapshot(fake.program())
    assert fake.areas[3].start not in starts(snapshot)
    assert len(starts(snapshot)) == len(fake.areas) - 1
    assert f"vmap_area {fake.areas[3].address:#x}" in [
        p.where for p in snapshot.problems
    ]


def test_overlap() -> None:
    """Two areas that share addresses are both shown, and named."""
    fake = kernel()
    fake.memory[fake.word(fake.areas[3], "va_end")] = fake.areas[4].start + PAGE
    snapshot = take_snapshot(fake.program())
    assert f"overlaps vmap_area {fake.areas[4].address:#x}" in [
        p.detail for p in snapshot.problems
    ]
    assert starts(snapshot) == [area.start for area in fake.areas]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 13),
            st.sampled_from(sorted(AREA_WORDS)),
            st.one_of(
                st.integers(0, 2**64 - 1),
                st.integers(BASE, BASE + 2 * PAGE),
                st.integers(0, 200).map(lambda n: BASE + 8 * n),
            ),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_damage(damage: "list[tuple[int, str, int]]") -> None:
    """Whatever words are changed, the walk ends without an exception."""
    fake = kernel()
    for index, member, value in damage:
        fake.memory[fake.word(fake.areas[index], member)] = value
    snapshot = take_snapshot(fake.program(), all_states=True)
    found = starts(snapshot)
    assert len(found) <= len(fake.areas) + len(damage) * 2
    if not snapshot.problems:
        assert found == sorted(found)
