# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A kernel that changes while it is read: what stays is listed, though no walk through
the tree meets all of it, or a walk comes to where the tree was.
"""

from __future__ import annotations

from itertools import chain, count, cycle, repeat
from typing import Dict, Iterator, Sequence, Tuple

from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.vmalloc.blocks import take_blocks
from drgn_vmap.kernel.vmalloc.snapshot import take_snapshot
from tests.fakes.kernel import PAGE, VMALLOC_START, WORD, FakeArea, FakeKernel
from tests.fakes.series import SeriesKernel

AREAS = 31


class ChangingKernel(FakeKernel):
    """A live kernel with some words that another CPU writes all the time."""

    live = True

    def __init__(self, areas: Sequence[FakeArea]) -> None:
        self.changing: Dict[int, Iterator[int]] = {}
        """By address, what each read of the word returns."""
        super().__init__(areas)

    def read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        for word, values in self.changing.items():
            if address <= word < address + count:
                self.memory[word] = next(values)
        return super().read(address, count, offset, physical)


class ChangingTree(ChangingKernel):
    """One whose areas' tree is moved about."""

    def __init__(self) -> None:
        starts = [VMALLOC_START + 16 * PAGE * i for i in range(AREAS)]
        super().__init__([FakeArea(start, 2, va_flags=1) for start in starts])

    def _place(self, area: FakeArea) -> None:
        # Each on a page of its own, which is read at a moment of its own.
        self._next += -self._next % PAGE
        super()._place(area)

    def hide(self, member: str, in_sight: Tuple[bool, ...]) -> None:
        """Let the root lose what is below it on one side, in some of the walks."""
        word = self.word(self.areas[AREAS // 2], member)
        # Instead of there, it leads to a leaf, which names another parent.
        leaf = self.word(self.areas[2], "rb_parent")
        link = self.memory[word]
        self.changing[word] = cycle([link if seen else leaf for seen in in_sight])


class ChangingXarray(SeriesKernel, ChangingKernel):
    """One whose block is in an xarray that is given another topmost node."""

    def __init__(self) -> None:
        super().__init__()
        _, queue = self.variables["vmap_block_queue"]
        self.head = queue + 2 * WORD
        self.top = self.memory[self.head]
        self.emptied = self._allocate(64 * WORD) | (self.top & 3)


def half_hidden_kernel() -> ChangingTree:
    """A kernel of which walks see one half of the tree or the other, in turns."""
    kernel = ChangingTree()
    kernel.hide("rb_left", (True, False))
    kernel.hide("rb_right", (False, True))
    return kernel


def test_branch_out_of_sight() -> None:
    """What no single walk meets is listed, and that it raced is told."""
    kernel = half_hidden_kernel()
    snapshot = take_snapshot(Target(kernel.program()), once=True)
    assert {problem.what for problem in snapshot.problems} == {"racing"}
    assert snapshot.areas.start.tolist() == [area.start for area in kernel.areas]


def test_freed_meanwhile() -> None:
    """What only an earlier walk met and is in no tree any more is not listed."""
    kernel = half_hidden_kernel()
    freed, above = kernel.areas[:2]
    own, link = kernel.word(freed, "rb_parent"), kernel.word(above, "rb_left")
    assert kernel.memory[link] == own
    # Only the first read is from before rb_erase() and RB_CLEAR_NODE().
    kernel.changing[link] = chain([own], repeat(0))
    kernel.changing[own] = chain([kernel.memory[own]], repeat(own))
    starts = take_snapshot(Target(kernel.program()), once=True).areas.start.tolist()
    assert starts == [area.start for area in kernel.areas if area is not freed]


def test_xarray_shrinks() -> None:
    """A block is not missed when its xarray gave up the node that was its head."""
    kernel = ChangingXarray()
    kernel.changing[kernel.head] = chain([kernel.emptied], repeat(kernel.top))
    blocks = take_blocks(Target(kernel.program()), once=True)
    assert blocks.table.start.tolist() == [kernel.areas[-1].start]
    assert not blocks.problems


def test_xarray_never_rests() -> None:
    """Where blocks may be missing, that is told."""
    kernel = ChangingXarray()
    kernel.changing[kernel.head] = count(kernel.emptied, PAGE)
    places = [
        problem.where for problem in take_blocks(Target(kernel.program())).problems
    ]
    assert f"xa_head {kernel.head:#x}" in places
