# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where modules go: what is kept for code, and the tree that says so."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest
from drgn import Architecture, Platform, Program, Type, TypeKindSet, TypeMember

from drgn_vmap.analyses.gaps import cached_place, find_gaps
from drgn_vmap.errors import Fault
from drgn_vmap.kernel.memory.bulk import Memory
from drgn_vmap.kernel.vmalloc.maple_trees import maple_ranges
from drgn_vmap.model.space import Gap, Space, VmallocRange
from drgn_vmap.render.gaps import gaps_text
from tests.fakes.snapshots import BASE, PAGE, area, snapshot_of

TREE = 0xFFFF888000000000
NODES = TREE + 0x1000
NODE_BYTES, SLOTS = 256, 16
DENSE, LEAF, RANGE = 0, 1, 2
LAST = (1 << 64) - 1
Slots = Sequence[Tuple[int, int]]
"""The pivot and the entry of each slot in use."""


def pointer(node: int, type_: int) -> int:
    """Return how the kernel marks a pointer to a node: not its root, and its type."""
    return NODES + node * NODE_BYTES | type_ << 3 | 2


def target_of(root: int, nodes: Sequence[Slots]) -> Any:
    """Return a kernel that has a maple tree."""
    prog = Program(Platform(Architecture.X86_64))
    long = prog.int_type("unsigned long", 8, False)
    entry = prog.pointer_type(prog.void_type())

    def member(name: str, type_: Type, word: int) -> TypeMember:
        return TypeMember(type_, name, word * 64)

    words = prog.array_type(long, SLOTS - 1), prog.array_type(entry, SLOTS)
    node = (member("parent", entry, 0), member("pivot", words[0], 1))
    structs = {
        "maple_tree": prog.struct_type(
            "maple_tree", 16, (member("ma_root", entry, 1),)
        ),
        "maple_range_64": prog.struct_type(
            "maple_range_64", NODE_BYTES, (*node, member("slot", words[1], SLOTS))
        ),
    }

    def find(
        prog: Program, kinds: TypeKindSet, name: str, filename: Optional[str]
    ) -> Optional[Type]:
        return structs.get(name)

    prog.register_type_finder("fake", find, enable_index=0)
    data: Dict[int, bytes] = {TREE: struct.pack("<QQ", 0, root).ljust(PAGE, b"\0")}
    whole: List[bytes] = []
    for slots in nodes:
        pivots = [pivot for pivot, _ in slots] + [0] * SLOTS
        entries = [entry for _, entry in slots] + [0] * SLOTS
        whole.append(struct.pack("<32Q", 0, *pivots[: SLOTS - 1], *entries[:SLOTS]))
    data[NODES] = b"".join(whole).ljust(PAGE, b"\0")
    for at, content in data.items():
        prog.add_memory_segment(
            at, PAGE, lambda _, count, offset, __, of=content: of[offset:][:count]
        )
    return SimpleNamespace(prog=prog, memory=Memory(prog, PAGE))


def ranges_of(root: int, *nodes: Slots) -> List[Tuple[int, int]]:
    found = maple_ranges(target_of(root, nodes), TREE)
    return sorted((one.first, one.last) for one in found)


def test_ranges_of_a_maple_tree() -> None:
    """Entries of leaves, by the pivots; a node that is not full ends with pivot 0."""
    top = [(0xFFF, pointer(1, LEAF)), (LAST, pointer(2, LEAF))]
    low = [(0xFF, 0), (0x1FF, 0x100), (0xFFF, 0)]
    high = [(0x1FFF, 0x1000), (0x2FFF, 0), (0x3FFF, 0x3000), (0, 0)]
    assert ranges_of(pointer(0, RANGE), top, low, high) == [
        (0x100, 0x1FF),
        (0x1000, 0x1FFF),
        (0x3000, 0x3FFF),
    ]
    # The last slot of a full node has no pivot.
    full = [(at, 8 * (at % 2)) for at in range(SLOTS - 1)] + [(0, 8)]
    odd = [(at, at) for at in range(1, SLOTS - 1, 2)]
    assert ranges_of(pointer(0, LEAF), full) == [*odd, (SLOTS - 1, LAST)]


@pytest.mark.parametrize("root", [0, 0x1000])
def test_no_ranges(root: int) -> None:
    """An empty tree, and one whose root is the entry of index 0."""
    assert ranges_of(root) == []


@pytest.mark.parametrize(
    "root",
    [
        pytest.param(pointer(0, RANGE), id="circle"),
        pytest.param(pointer(1, DENSE), id="type"),
        pytest.param(pointer(1 << 20, LEAF), id="unreadable"),
    ],
)
def test_a_damaged_tree(root: int) -> None:
    """It ends, and says where."""
    with pytest.raises(Fault):
        ranges_of(root, [(LAST, pointer(0, RANGE))])


WHOLE = VmallocRange(BASE, BASE + 100 * PAGE, BASE + 100 * PAGE)
KEPT = (
    Gap(BASE + 10 * PAGE, BASE + 12 * PAGE),
    Gap(BASE + 96 * PAGE, BASE + 100 * PAGE),
    Gap(BASE + 200 * PAGE, BASE + 300 * PAGE),
)


@pytest.mark.parametrize(
    "pages, place", [(1, 10), (2, 10), (3, 96), (4, None), (50, None)]
)
def test_what_code_gets(pages: int, place: Optional[int]) -> None:
    """The first that is large enough; the end of the range is out of reach."""
    space = Space(WHOLE, (WHOLE,), KEPT)
    found = cached_place(space, pages * PAGE - 1, PAGE)
    assert found == (None if place is None else BASE + place * PAGE)


def test_what_is_kept_is_told() -> None:
    """It is part of what is busy."""
    gaps = find_gaps(snapshot_of([area(0, 100, flags=2)]), WHOLE, None, KEPT[:2])
    assert (
        "of what is busy, 24.0 KiB are kept for the next code, in 2 ranges, the largest "
        "of 16.0 KiB"
    ) in gaps_text(gaps)
