# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What an area costs, without a clock: reads and bytes from the target, bytecode that the
interpreter runs, memory held at once.

All are counted for ``ls`` of fake kernels of two sizes. The difference is what more
areas cost, whatever starting up does. The bounds leave room for other versions of
Python and numpy, but none for reading an area's fields one by one, nor for looking at
all areas for each.

So are those of finding a name among more types and symbols of a kernel, of reading a line
more of a text, and more of what texts hold little of.
"""

from __future__ import annotations

import os
import sys
import tracemalloc
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Tuple

import pytest
from drgn import Architecture, FaultError, Platform, Program

import drgn_vmap
from drgn_vmap._numpy import np
from drgn_vmap.analyses.over_time import over_time
from drgn_vmap.analyses.saved_text import areas_from_text, texts_in
from drgn_vmap.commands import run
from drgn_vmap.kernel.memory.bulk import Memory
from drgn_vmap.kernel.types.btf_data import BtfData, BtfKind
from drgn_vmap.kernel.types.names import PackedNames
from drgn_vmap.model.saved import SavedText
from tests.fakes.btf import Maker
from tests.fakes.dialects import DIALECTS, ERAS, areas_of, between, printed
from tests.fakes.kallsyms import TOKENS, table
from tests.fakes.kernel import (
    AREA_SIZE,
    PAGE,
    VM_SIZE,
    VMALLOC_START,
    FakeArea,
    FakeKernel,
)

OURS = f"{Path(drgn_vmap.__file__).parent}{os.sep}"
"""Where the package is; the checkout may have the same name."""
SIZES = (2_000, 8_000, 14_000)
"""So far apart that what is done for some thousand areas at a time evens out."""
VM_ALLOC = 0x2

INSTRUCTIONS = 30
"""Of bytecode an area that is unlike the one before; with Python 3.11 it takes 16."""
NAME_INSTRUCTIONS = 4
"""Of bytecode a name that is not asked for: where types begin takes two."""
LINE_INSTRUCTIONS = 40
"""Of bytecode a line of a text with something around it; with Python 3.11 it takes 28."""
PEAK_BYTES = 500
"""An area; a third of it is room for pages that is kept ready, and takes no memory. Of
vmcores `make bench` tells the truth: below 300."""


@dataclass(frozen=True)
class Cost:
    """What one run cost."""

    reads: int
    bytes: int
    instructions: int
    """Of the bytecode of drgn_vmap."""
    peak: int
    """Bytes of memory held at once."""


class CountingKernel(FakeKernel):
    """A fake that counts what is read of it."""

    reads = 0
    bytes_read = 0

    def read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        self.reads += 1
        self.bytes_read += count
        return super().read(address, count, offset, physical)


def instructions_of(call: Callable[[], object]) -> int:
    """Count the bytecode instructions of drgn_vmap that a call runs."""
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def peak_of(call: Callable[[], object]) -> int:
    """Return how many bytes a call holds at once."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def cost_of(areas: int) -> Cost:
    """Count what it takes to list so many areas."""
    fake = CountingKernel(
        [
            FakeArea(VMALLOC_START + 4 * PAGE * i, 2 + i % 2, vm_flags=VM_ALLOC)
            for i in range(areas)
        ]
    )
    prog = fake.program()

    def ls() -> None:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            assert run("ls", prog, []) == 0

    ls()
    reads, bytes_ = fake.reads, fake.bytes_read
    return Cost(reads, bytes_, instructions_of(ls), peak_of(ls))


@pytest.fixture(scope="module")
def costs() -> list[Cost]:
    return [cost_of(size) for size in SIZES]


def an_area(costs: list[Cost], what: str) -> float:
    """Return what an area more costs, from the smallest kernel to the largest."""
    more = getattr(costs[-1], what) - getattr(costs[0], what)
    return float(more / (SIZES[-1] - SIZES[0]))


def test_pages_are_read_and_no_fields(costs: list[Cost]) -> None:
    """
    Reads are of whole pages. The fake lays a vm_struct beside its area, and all areas
    are read before all vm_structs: so each page twice.
    """
    structs = AREA_SIZE + VM_SIZE
    assert an_area(costs, "bytes") < 2.1 * structs
    assert an_area(costs, "reads") < 2.1 * structs / PAGE


def test_few_instructions_an_area(costs: list[Cost]) -> None:
    """Only joining the parts of a line takes the interpreter's time."""
    assert an_area(costs, "instructions") < INSTRUCTIONS


def test_little_memory_an_area(costs: list[Cost]) -> None:
    assert an_area(costs, "peak") < PEAK_BYTES


@pytest.mark.parametrize("what", [field.name for field in fields(Cost)])
def test_straight_line(costs: list[Cost], what: str) -> None:
    """Between the second and the third size an area costs what it did before."""
    small, medium, large = (getattr(cost, what) for cost in costs)
    assert large - medium < 1.5 * (medium - small)


def test_a_page_that_faults_is_read_once() -> None:
    reads: list[int] = []

    def fault(address: int, count: int, offset: int, physical: bool) -> bytes:
        reads.append(address)
        raise FaultError("nothing here", address)

    prog = Program(Platform(Architecture.X86_64))
    prog.add_memory_segment(0, 16 * PAGE, fault)
    wanted = np.array([2 * PAGE, 5 * PAGE], np.uint64)
    _, ok = Memory(prog, PAGE).records(wanted, np.dtype("<u8"))
    assert reads == wanted.tolist() and not ok.any()


def find_type(types: int) -> int:
    """Count the instructions that finding one of so many types takes."""
    made = Maker()
    for index in range(types):
        made.add(BtfKind.TYPEDEF, f"{index}_type")
    data = made.data()
    ids: list[int] = []
    count = instructions_of(
        lambda: ids.extend(BtfData(data).find(BtfKind.TYPEDEF, "1000_type"))
    )
    assert ids == [1001]
    return count


def find_symbol(symbols: int) -> int:
    """Count the instructions that finding one of so many symbols takes."""
    data = table([b"T%d_symbol" % index for index in range(symbols)], "<")
    indices: list[int] = []
    count = instructions_of(
        lambda: indices.extend(
            PackedNames(data, symbols, TOKENS, "<").indices(b"1000_symbol")
        )
    )
    assert indices == [1000]
    return count


@pytest.mark.parametrize("find", [find_type, find_symbol])
def test_names_are_not_read_one_by_one(find: Callable[[int], int]) -> None:
    """Of a hundred thousand names, only those are decoded that begin alike."""
    assert (find(14_000) - find(2_000)) / 12_000 < NAME_INSTRUCTIONS


LINES = printed(ERAS[4], 64, areas_of(ERAS[4], 64, SIZES[-1], 1)).splitlines()


def read_text(lines: int, dialect: str) -> int:
    """Count the instructions that reading so many lines takes."""
    text = DIALECTS[dialect]("".join(f"{line}\n" for line in LINES[:lines]))
    return instructions_of(lambda: areas_from_text("file", text))


@pytest.mark.parametrize(
    "dialect",
    [
        *("as it is", "quoted", "quoted, spaced", "with bars", "indented"),
        *("indented by a tab", "numbered by grep", "file of grep", "file and number"),
        *("dmesg", "dmesg with level", "syslog", "journal", "logcat"),
        *("CR", "CR and quoted"),
    ],
)
def test_lines_with_something_around_are_read_in_bulk(dialect: str) -> None:
    """Only what stands before them takes the interpreter's time."""
    small, medium = (read_text(size, dialect) for size in SIZES[:2])
    assert (medium - small) / (SIZES[1] - SIZES[0]) < LINE_INSTRUCTIONS


def test_notes_are_not_looked_through_for_each() -> None:
    """Where many stand between lines, one costs what it does where there are few."""
    texts = ["\n".join(LINES[:size]) for size in (2_000, 4_000, 6_000)]
    small, medium, large = (
        instructions_of(lambda: areas_from_text("file", between("...", 5)(text)))
        for text in texts
    )
    assert large - medium < 1.2 * (medium - small)


def many_snapshots(count: int) -> str:
    """Return as many snapshots, of which each has a date and a line that is cut."""
    return "".join(
        f"Mon Nov 30 10:{at % 60:02d}:00 UTC 2026\n{line(0)}{line(1)}{line(2)[:-15]}\n"
        for at in range(count)
    )


def many_labels(count: int) -> str:
    """Return as many areas, each with a label that no other has."""
    letters = "".maketrans("0123456789", "abcdefghij")
    return "".join(
        line(at, f"vendor-{at * 7919:09d}".translate(letters)) for at in range(count)
    )


def line(at: int, label: str = "vmalloc") -> str:
    start = VMALLOC_START + 4 * PAGE * at
    head = f"0x{start:016x}-0x{start + 3 * PAGE:016x}   12288"
    return f"{head} somebody+0x1/0x20 pages=2 {label} N0=2\n"


@pytest.mark.parametrize("text_of", [many_snapshots, many_labels])
def test_a_text_is_read_in_a_straight_line(text_of: Callable[[int], str]) -> None:
    """Nothing in a text costs more if there is more of it."""

    def read(count: int) -> int:
        text = text_of(count)
        return instructions_of(lambda: texts_in("text", text))

    small, large = read(60), read(480)
    assert large < 1.5 * 8 * small


def test_moments_are_few_lists() -> None:
    """What a caller holds at all moments has a list, not one for each moment."""

    class Counted(Tuple[SavedText, ...]):
        asked = 0

        def __len__(self) -> int:
            self.asked += 1
            return super().__len__()

    texts = Counted(texts_in("text", many_snapshots(50)))
    assert over_time(texts).bytes == (2 * 3 * PAGE,) * 50
    assert texts.asked < 10
