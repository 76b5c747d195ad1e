# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What is at an address
---------------------

Places in a kernel made by hand, and the search through a fake kernel's tree.
"""

import random
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest
from drgn import Program, Type, TypeMember

from drgn_vmap._numpy import np
from drgn_vmap.analyses.addr import (
    are_in_areas,
    block_starts,
    find_places,
    virtual_addresses,
)
from drgn_vmap.commands import run
from drgn_vmap.kernel.doors import Values
from drgn_vmap.kernel.memory.bulk import Memory
from drgn_vmap.kernel.memory.holes import why_no_ram
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.vmalloc.snapshot import take_areas_around
from drgn_vmap.model.areas import VMAP_BLOCK, VMAP_RAM, State
from drgn_vmap.model.blocks import PageState
from drgn_vmap.model.kcore import KcoreRules, Returned
from drgn_vmap.model.places import Place, Region, Spot
from drgn_vmap.model.translation import Translation
from drgn_vmap.render.addr import place_json, place_text
from tests.fakes.blocks import BITS, START, FakeBlock, blocks_of
from tests.fakes.kernel import PAGE, VMALLOC_START, FakeArea, FakeKernel
from tests.fakes.snapshots import BASE, area, snapshot_of

FORK = 0xFFFFFFFF81000010
VM_IOREMAP, VM_ALLOC, VM_UNINITIALIZED, VM_NO_GUARD = 0x1, 0x2, 0x20, 0x40
NEW, OLD = KcoreRules(True, True, True), KcoreRules(False, False, False)
SYSTEM_RAM = 0x81000200
LACKS = "/proc/iomem lacks it"
BLOCK_PAGE = (START - BASE) // PAGE

KERNEL = snapshot_of(
    [
        area(0, 5, flags=VM_ALLOC, caller=FORK, nr_pages=4, numa_pages=(4, 0)),
        area(5, 2, flags=VM_IOREMAP),
        area(10, 3, flags=VM_ALLOC | VM_NO_GUARD),
        area(20, 3, flags=VM_ALLOC | VM_UNINITIALIZED),
        area(30, 70, va_flags=VMAP_RAM),
        area(BLOCK_PAGE, BITS, va_flags=VMAP_RAM | VMAP_BLOCK, is_block=True),
        area(7, 3, State.LAZY),
        area(13, 7, State.FREE, vmap_node=-1),
    ],
    {FORK: "evil\x1b[2J+0x1/0x2"},
)
BLOCKS = blocks_of([FakeBlock(free=BITS - 6, used="..##..", mapped="..##..")])


def place_of(
    page: int,
    rules: KcoreRules = NEW,
    mapped: bool = True,
    regions: Sequence[Region] = (),
) -> Place:
    """Return what is said of a byte of a page behind BASE."""
    address = BASE + page * PAGE + 16
    spots = [Spot(f"{address:#x}", (address,))]
    phys = np.array([0x1230010 if mapped else 0], np.uint64)
    there = np.array([mapped])
    translation = Translation(phys, there, np.array([True]))
    told = np.array([False])
    blocks = BLOCKS if len(block_starts(KERNEL, virtual_addresses(spots))) else None
    [place] = find_places(spots, KERNEL, translation, told, blocks, rules, regions)
    return place


@pytest.mark.parametrize(
    "page, start, index, guard",
    [(0, 0, 0, False), (3, 0, 3, False), (4, 0, 4, True), (12, 10, 2, False)],
)
def test_page_of_area(page: int, start: int, index: int, guard: bool) -> None:
    """The last page is the guard, unless the area has none."""
    place = place_of(page)
    assert place.area and place.area.start == BASE + start * PAGE
    assert (place.page, place.is_guard) == (index, guard)


@pytest.mark.parametrize("page, returns", [(1, Returned.UNDEFINED), (2, Returned.DATA)])
def test_below_the_file(page: int, returns: Returned) -> None:
    """Where /proc/kcore has an address below offset 0, as riscv's has, nothing is told."""
    answer = place_of(page, replace(NEW, readable_from=BASE + 2 * PAGE)).kcore
    assert answer is not None and answer.returns == returns


@pytest.mark.parametrize(
    "page, below, above",
    [(0, None, 5), (4, None, 5), (6, 0, 10), (8, 5, 10), (15, 10, 20), (29, 20, 30)],
)
def test_neighbours(page: int, below: Optional[int], above: int) -> None:
    """They are the areas in use around the area, or around a place without one."""
    place = place_of(page)
    assert (place.below and place.below.start) == (
        None if below is None else BASE + below * PAGE
    )
    assert place.above and place.above.start == BASE + above * PAGE


@pytest.mark.parametrize(
    "page, state",
    [(1, State.BUSY), (8, State.LAZY), (15, State.FREE), (25, None)],
)
def test_states(page: int, state: Optional[State]) -> None:
    """What is in no range at all is in no area; a free range has no pages."""
    place = place_of(page)
    assert (place.area and place.area.state) == state
    assert (place.page is None) == (state in (State.FREE, None))


@pytest.mark.parametrize(
    "page, state", [(1, PageState.FREED), (3, PageState.USED), (6, PageState.FREE)]
)
def test_page_of_block(page: int, state: PageState) -> None:
    """Pages 2 and 3 are used, the others before 6 were handed out before."""
    place = place_of(BLOCK_PAGE + page)
    assert (place.block_page, place.vb) == (state, 0xFFFF888000001000)


@pytest.mark.parametrize(
    "page, mapped, new, old",
    [
        (1, True, "data", "data"),
        (1, False, "zeros", "zeros"),
        (4, False, "zeros", "zeros"),
        (4, True, "zeros", "zeros"),
        (5, True, "zeros", "zeros"),
        (8, False, "zeros", "undefined"),
        (15, False, "zeros", "undefined"),
        (15, True, None, None),
        (20, True, "zeros", "data"),
        (25, False, None, None),
        (31, True, "data", "undefined"),
        (BLOCK_PAGE + 1, False, "zeros", "undefined"),
        (BLOCK_PAGE + 2, True, "data", "undefined"),
        (BLOCK_PAGE + 3, True, "other-page", "undefined"),
        (BLOCK_PAGE + 9, False, "other-page", "undefined"),
    ],
)
def test_kcore(page: int, mapped: bool, new: Optional[str], old: Optional[str]) -> None:
    """By the kernel's own rules, as they were read and measured on 6.12 and 5.10."""
    for rules, expected in ((NEW, new), (OLD, old)):
        answer = place_of(page, rules, mapped).kcore
        assert (answer and answer.returns.value) == expected
        if expected == "other-page":
            assert answer and answer.page == 2


def test_text() -> None:
    """A symbol cannot move the cursor; each fact has its line."""
    text = place_text(place_of(3))
    assert "\x1b" not in text and "evil\\x1b[2J" in text
    for words in (
        "vmalloc, in use, 20.0 KiB",
        "4 pages N0=4",
        "0x1230010",
        "next to it",
    ):
        assert words in text
    assert "used page of vmap_block" in place_text(place_of(BLOCK_PAGE + 2))


def test_a_mapped_page_is_no_guard() -> None:
    """The last page of per-CPU memory is in use, though kcore takes it for a guard."""
    assert "guards" in place_text(place_of(4, mapped=False))
    assert "guards" not in place_text(place_of(4))
    assert place_json(place_of(4, mapped=False))["guard"]
    assert not place_json(place_of(4))["guard"]


def test_what_is_missing_says_why() -> None:
    """Neither a page that is not mapped, nor one that nobody maps, is address 0."""
    assert place_json(place_of(4, mapped=False))["missing"] == {"phys": "not mapped"}
    nowhere = Place("phys:1000", None, 0x1000)
    assert place_text(nowhere) == "phys:1000: no area in use maps 0x1000\n"
    assert place_json(nowhere)["missing"] == {"address": "no area in use maps 0x1000"}


SPACE = Region("vmalloc space", BASE, BASE + 14 * PAGE, is_vmalloc=True)
NOTHING = "nothing that is known"


@pytest.mark.parametrize(
    "page, name",
    [(1, None), (8, None), (13, None), (15, NOTHING), (16, "the moon"), (25, None)],
)
def test_regions(page: int, name: Optional[str]) -> None:
    """Outside of vmalloc space the tree of free areas tells nothing; areas in use do."""
    moon = Region("the moon\x1b", BASE + 16 * PAGE, BASE + 17 * PAGE)
    everywhere = Region("vmalloc space", BASE + 25 * PAGE, BASE + 26 * PAGE, True)
    place = place_of(page, regions=[SPACE, everywhere, moon])
    text, document = place_text(place), place_json(place)
    if name is None:
        assert place.region is None and "region" not in document
        return
    assert f"{name}" in text.splitlines()[0] and "outside vmalloc space" in text
    assert "free" not in text and "kcore" not in text and "\x1b" not in text
    assert document["region"]["name"].startswith(name)
    start, end = (BASE + 14 * PAGE, BASE + 16 * PAGE)
    assert int(document["region"]["start"], 16) == (start if page == 15 else end)


@pytest.mark.parametrize(
    "pages, expected", [([1, 8], True), ([1, 15], False), ([25], False), ([], True)]
)
def test_are_in_areas(pages: List[int], expected: bool) -> None:
    """Free ranges and no range at all are not."""
    addresses = np.array([BASE + page * PAGE for page in pages], np.uint64)
    assert are_in_areas(KERNEL, addresses) == expected


def test_neighbours_of_a_region() -> None:
    """They are told by how far the address is from them, not a free range."""
    place = place_of(15, regions=[SPACE])
    assert "after 8.0 KiB" in place_text(place)  # from the area that ends at page 13


def test_no_page() -> None:
    """A hole in RAM is no page, mapped or not."""
    nowhere = Place("phys:1000", None, 0x1000, no_page="no RAM is there: \x1b")
    assert "no RAM is there" in place_text(nowhere) and "\x1b" not in place_text(
        nowhere
    )
    assert set(place_json(nowhere)["missing"]) == {"address", "page"}
    device = replace(place_of(5), no_page="no RAM is there: PCI")
    assert "0x1230010; no RAM is there: PCI" in place_text(device)
    assert place_json(device)["missing"] == {"page": "no RAM is there: PCI"}


class ResourceKernel(FakeKernel):
    """A kernel with a tree of resources, or another thing in its place."""

    def __init__(self, resources: Sequence[Tuple[str, int, int, Any]]) -> None:
        super().__init__([])
        self.variables["iomem_resource"] = (
            "resource",
            self._place_resources(resources),
        )

    def _place_resources(self, resources: Sequence[Tuple[str, int, int, Any]]) -> int:
        following = 0
        for name, start, end, children in reversed(resources):
            at = self._allocate(6 * 8)
            text = self._allocate(24)
            raw = name.encode().ljust(24, b"\0")
            for index in range(0, 24, 8):
                self.memory[text + index] = int.from_bytes(
                    raw[index : index + 8], "little"
                )
            flags = SYSTEM_RAM if name in ("System RAM", "Kernel code") else 0x200
            inner = self._place_resources(children)
            values = (start, end, text, following, inner, flags)
            for index, value in enumerate(values):
                self.memory[at + 8 * index] = value
            following = at
        return following

    def _types(self, prog: Program) -> Dict[str, Type]:
        types = super()._types(prog)
        ulong, char = types["unsigned long"], prog.int_type("char", 1, True)

        def pointer() -> Type:
            return prog.pointer_type(types["resource"])

        types["resource"] = prog.struct_type(
            "resource",
            48,
            [
                TypeMember(ulong, "start", 0),
                TypeMember(ulong, "end", 64),
                TypeMember(prog.pointer_type(char), "name", 128),
                TypeMember(pointer, "sibling", 192),
                TypeMember(pointer, "child", 256),
                TypeMember(ulong, "flags", 320),
            ],
        )
        return types


@pytest.mark.parametrize(
    "address, why",
    [
        (0x1000, ""),
        (0x2800, ""),
        (0xA0000, "/proc/iomem has it as Video RAM"),
        (0xB0000, "/proc/iomem has it as PCI Bus 0000:00"),
        (0xF0000, LACKS),
    ],
)
def test_no_ram(address: int, why: str) -> None:
    """RAM is what the kernel's resources call so, or what is inside of that."""
    tree: List[Tuple[str, int, int, Any]] = [
        ("System RAM", 0x1000, 0x9FFFF, [("Kernel code", 0x2000, 0x2FFF, [])]),
        ("PCI Bus 0000:00", 0xA0000, 0xBFFFF, [("Video RAM", 0xA0000, 0xAFFFF, [])]),
    ]
    kernel = ResourceKernel([("PCI mem", 0, 1 << 40, tree)])
    assert said_of_ram(kernel, address) == why
    # What is damaged or not there tells nothing.
    assert said_of_ram(fake_kernel(1), address) == ""
    root = kernel.variables["iomem_resource"][1]
    for damaged in (0xDEAD000, root, 0):
        kernel.memory[root + 32] = damaged
        assert said_of_ram(kernel, address) == ("" if damaged else LACKS)


def said_of_ram(kernel: FakeKernel, address: int) -> str:
    """Return why there is no RAM at a physical address."""
    prog = kernel.program()
    return why_no_ram(Values(prog), Memory(prog, PAGE), address)


def fake_kernel(areas: int) -> FakeKernel:
    """A kernel whose areas of two pages have gaps of two pages between them."""
    starts = range(VMALLOC_START, VMALLOC_START + areas * 4 * PAGE, 4 * PAGE)
    return FakeKernel([FakeArea(start, 2, VM_ALLOC) for start in starts])


def starts_around(kernel: FakeKernel, addresses: List[int]) -> List[int]:
    """Return where the areas begin that a search reads."""
    wanted = np.array(sorted(addresses), np.uint64)
    found = take_areas_around(Target(kernel.program()), wanted)
    assert found.problems == ()
    starts: List[int] = found.areas.start.tolist()
    return starts


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_search(count: int) -> None:
    """It reads the areas around each address, and not many more."""
    kernel = fake_kernel(count)
    for at in random.Random(count).choices(range(4 * count), k=20):
        index, in_gap = at // 4, at % 4 >= 2
        near = range(max(index - 1 + in_gap, 0), min(index + 2, count))
        wanted = {VMALLOC_START + 4 * PAGE * one for one in near}
        found = starts_around(kernel, [VMALLOC_START + at * PAGE + 1])
        assert wanted <= set(found) and len(found) <= 4


def test_search_in_a_damaged_place_resources() -> None:
    """If the way is damaged, all areas are read, from the list as well."""
    kernel = fake_kernel(30)
    middle = kernel.areas[15]
    kernel.memory[kernel.word(middle, "rb_left")] = 0xDEAD000
    address = np.array([VMALLOC_START], np.uint64)
    found = take_areas_around(Target(kernel.program()), address)
    assert found.areas.start.tolist() == [one.start for one in kernel.areas]
    assert [problem.what for problem in found.problems] == ["unreadable"]
    assert "rb_node 0xdead000" in found.problems[0].where


@pytest.mark.parametrize("text", ["x", "-1", "phys", "virt:0", "1" * 17, "phys:0x"])
def test_no_address(text: str, capsys: Any) -> None:
    """What is no address is named."""
    assert run("addr", fake_kernel(1).program(), ["--", text]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "hexadecimal" in err and len(err.splitlines()) == 1
