# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Tags in pointers of arm64: a fake kernel in which each pointer has a tag of its own, and texts
as such kernels print them. That real ones are read right is seen in the lab.
"""

from dataclasses import fields
from typing import List

import pytest
from drgn import Architecture, Object, Platform, PlatformFlags

from drgn_vmap import take_snapshot
from drgn_vmap._numpy import np
from drgn_vmap.analyses.saved_text import areas_from_text, describe_saved
from drgn_vmap.commands.common import address_range
from drgn_vmap.commands.places import find_place
from drgn_vmap.kernel.doors import Values
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.types.structs import pointer_dtype, record_dtype, word_dtype
from drgn_vmap.kernel.vmalloc.lists import walk_list
from drgn_vmap.model.areas import AreaTable, ProblemKind
from drgn_vmap.model.tags import Tags
from drgn_vmap.render.pointers import pointer_format
from drgn_vmap.render.proc import proc_lines
from tests.fakes.kernel import BASE, VMALLOC_START, X86_64, FakeArea, FakeKernel
from tests.fakes.vmallocinfo import RAW

ARM64 = Platform(Architecture.AARCH64)
BIG_ENDIAN = Platform(Architecture.AARCH64, PlatformFlags.IS_64_BIT)
TAG = 0xFF << 56
POISON = 0xDEAD000000000122
AREAS = 20


class TaggedKernel(FakeKernel):
    """Each of its pointers has another tag than the one before, but for those of NULL."""

    def __init__(self, platform: Platform = ARM64) -> None:
        step = 1 << 16
        areas = [
            FakeArea(VMALLOC_START + step * at, 3, vm_flags=0x2) for at in range(AREAS)
        ]
        lazy = [FakeArea(VMALLOC_START + step * (AREAS + 1), 3)]
        super().__init__(areas, lazy, platform)
        self.addr = [area.vm + self._word for area in areas]
        """Where vm_struct.addr is."""
        for tag, (place, word) in enumerate(self.memory.items()):
            if BASE <= word < self._next or place in self.addr:
                self.memory[place] = tagged(word, tag)


def tagged(address: int, tag: int) -> int:
    """Return an address with a tag in place of all ones."""
    return address & ~TAG | tag % 0xFF << 56


@pytest.mark.parametrize("platform", [ARM64, BIG_ENDIAN])
def test_areas(platform: Platform) -> None:
    """All is found as if there were no tags, but for what the kernel prints with its tag."""
    fake = TaggedKernel(platform)
    found = take_snapshot(fake.program())
    areas = fake.areas
    plain = take_snapshot(FakeKernel(areas, fake.lazy, platform).program())
    assert (found.problems, plain.problems) == ((), ())
    for column in fields(AreaTable):
        if column.name != "addr":
            told, expected = (
                getattr(one.areas, column.name).tolist() for one in (found, plain)
            )
            assert told == expected, column.name
    busy = found.areas.take(np.arange(AREAS))
    assert busy.addr.tolist() == [fake.memory[place] for place in fake.addr]
    assert not set(busy.addr.tolist()) & set(busy.start.tolist())
    [text] = proc_lines(found, np.arange(AREAS), pointer_format("raw", 8, None))
    assert [int(line.split("-")[0], 16) for line in text.splitlines()] == [
        fake.memory[place] for place in fake.addr
    ]


def test_lists() -> None:
    """A list ends where it began, and its nodes are where they are."""
    fake = TaggedKernel()
    target = Target(fake.program())
    _, head = fake.variables["vmap_area_list"]
    nodes, problems = walk_list(target.memory, head, live=False)
    assert (nodes, problems) == ([fake.word(a, "next") for a in fake.areas], ())
    target.by_lists = True
    assert len(take_snapshot(target.prog).areas) == AREAS + 1


def test_values() -> None:
    """Variables that are pointers enter without tags; numbers that look like one stay."""
    prog = TaggedKernel().program()
    pointer = prog.pointer_type(prog.void_type())
    number = prog.type("unsigned long")
    values, some = Values(prog), tagged(BASE, 0x35)
    assert values.number(lambda prog: Object(prog, pointer, some)) == BASE
    assert values.number(lambda prog: Object(prog, number, some)) == some


def test_records() -> None:
    """What is a pointer is told by its type, of an rb_node also its parent."""
    fake = TaggedKernel()
    target, at = Target(fake.program()), np.array([BASE], np.uint64)
    first = fake.areas[0]
    members = {name: name for name in ("va_start", "vm")}
    members["parent"] = "rb_node.__rb_parent_color"
    for kept in ((), ("vm", "parent")):
        dtype = record_dtype(target.prog, "struct vmap_area", members, tagged=kept)
        [record], _ = target.memory.records(at, dtype)
        assert (record["vm"] == first.vm) != bool(kept)
        assert (record["parent"] & TAG == TAG) != bool(kept)
        assert record["va_start"] == first.start
    place = fake.word(first, "vm")
    for dtype, expected in (
        (pointer_dtype(target.prog), first.vm),
        (word_dtype(target.prog), fake.memory[place]),
    ):
        assert target.memory.record(place, dtype) == expected
        assert target.memory.array(place, 1, dtype).tolist() == [expected]
    assert target.memory.pointer(place) == first.vm


def test_what_is_no_address_stays() -> None:
    """NULL, poison, what a tree has for itself, and user space are no tagged addresses."""
    tags = Tags(True)
    for number in (0, 2, POISON, 0x0000FFFFF7FF0000, 0xAAAA0000, (1 << 64) - 1):
        assert tags.off(number) == number
        assert tags.off_all(np.array([number], np.uint64)).tolist() == [number]
    for tag in range(0x100):
        number = tagged(VMALLOC_START, tag)
        assert tags.off(number) == VMALLOC_START
        assert tags.off_all(np.array([number], np.uint64)).tolist() == [VMALLOC_START]


def test_other_architectures() -> None:
    """Where there are no tags, what looks like one is damage."""
    fake = FakeKernel([FakeArea(VMALLOC_START, 3, vm_flags=0x2)], platform=X86_64)
    addr = fake.areas[0].vm + 8
    fake.memory[addr] = tagged(VMALLOC_START, 0x35)
    [problem] = take_snapshot(fake.program()).problems
    assert problem.what == ProblemKind.CORRUPT and "vm_struct" in problem.where


def test_of_a_person() -> None:
    """Who asks for what the kernel printed is told of the place that it means."""
    target = Target(TaggedKernel().program())
    start, end = VMALLOC_START, VMALLOC_START + 0x4000
    with_tag = f"{tagged(start, 0x35):#x}-{tagged(end, 0x35):#x}"
    assert address_range(with_tag) == (start, end)
    place = find_place(target, with_tag)
    assert (place.address, place.size) == (start, end - start)
    half = find_place(target, f"{with_tag.partition('-')[0]}-{end:#x}")
    assert (half.address, half.size) == (start, end - start)
    assert find_place(target, with_tag.partition("-")[0]).text == hex(start)
    phys = find_place(target, f"phys:{tagged(start, 0x35):x}")
    assert phys.address == tagged(start, 0x35)


def with_tags(text: str) -> str:
    """Return lines of /proc/vmallocinfo as such a kernel prints them, each with a tag."""
    lines: List[str] = []
    for tag, line in enumerate(text.splitlines()):
        digits = f"0x{tag * 0x35 % 0xFF:02x}"
        lines.append(line if "unpurged" in line else line.replace("0xff", digits, 2))
    return "".join(f"{line}\n" for line in lines)


def test_texts() -> None:
    """A copy of the file has the same areas, in an order, and is printed as it is."""
    text = with_tags(RAW)
    saved, plain = areas_from_text("file", text), areas_from_text("file", RAW)
    assert (saved.snapshot.problems, saved.pointers) == ((), "raw")
    assert [*describe_saved(saved)] == [*describe_saved(plain)]
    assert "".join(f"{line}\n" for line in saved.lines) == text
