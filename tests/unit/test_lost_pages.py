# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Vmcores without debug info of which pages are lost at random, names and types with them.

What the undamaged sample says is the truth: nothing may be said that differs from it, and
what is left out is said. VMAP_LOST_SEEDS says how many times each is tried.
"""

from __future__ import annotations

import lzma
import os
import random
from functools import lru_cache
from itertools import product
from typing import Iterator

import pytest
from drgn import Object, Program, TypeKind, TypeMember

from drgn_vmap import commands, load_types, take_snapshot
from drgn_vmap.kernel import opening
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.types.btf_data import BtfData
from drgn_vmap.kernel.types.btf_search import read_btf
from drgn_vmap.kernel.types.carried import carried_by
from drgn_vmap.kernel.types.torn import Torn
from drgn_vmap.kernel.types.torn_btf import UNNUMBERED
from drgn_vmap.kernel.vmalloc import snapshot
from tests.fuzz.image import Image
from tests.fuzz.inputs import Cut, Lose, Write
from tests.samples import SAMPLES_DIR

SEEDS = range(int(os.environ.get("VMAP_LOST_SEEDS", "4")))
NAMES = ("5.10", "6.1", "6.12", "7.3")
LISTED = {0.01: 0.99, 0.1: 0.8}
"""Of how many tries something is to be listed, by the share of pages that is lost."""
BLANKS = ["vm_struct", "unreadable"]
PAGE = 4096


@lru_cache(maxsize=None)
def image(name: str) -> Image:
    return Image(name, lzma.decompress((SAMPLES_DIR / f"{name}.xz").read_bytes()))


def damaged(name: str, rate: float, seed: int) -> Program:
    """Return a sample without some of its pages."""
    draw = random.Random(f"{name} {rate} {seed}")
    lost = [frame for frame in image(name).frames() if draw.random() < rate]
    return image(name).open_file([Lose(frame) for frame in lost])[0]


@lru_cache(maxsize=None)
def callers(name: str) -> dict[int, int]:
    """Return the address of each area's caller, by where the area starts."""
    areas = take_snapshot(image(name).open_file([])[0]).areas
    return dict(zip(areas.start.tolist(), areas.caller.tolist()))


def listed(prog: Program, capfd: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Return the exit status of ``ls``, and what it lists."""
    status = commands.run("ls", prog, [])
    out, err = capfd.readouterr()
    assert "Traceback" not in err and (status == 0) == (not err)
    return status, [line for line in out.splitlines() if line.startswith("0x")]


def may_be(line: str, caller: int) -> Iterator[list[str]]:
    """
    Yield what may stand for a line: the same, with the caller as an address, without the
    counts of its NUMA nodes, or without all that only its vm_struct tells.
    """
    words = line.split()
    if "unpurged" in words:
        yield words
        return
    bare = [f"{caller:#x}" if "+0x" in word else word for word in words]
    bare = [word for word in bare if not word.startswith("[")]
    for known, without in product((words, bare), (False, True)):
        yield [word for word in known if not (without and word.startswith("N"))]
    yield words[:2] + BLANKS


def by_range(lines: list[str]) -> dict[str, str]:
    """Return the lines of a whole list."""
    whole = {line.split()[0]: line for line in lines}
    assert len(whole) == len(lines) > 100
    return whole


def check_lines(name: str, lines: list[str], whole: dict[str, str]) -> None:
    """See that what is listed of a damaged sample is right, as far as it goes."""
    for line in lines:
        range_ = line.split()[0]
        start = int(range_.split("-")[0], 16)
        assert line.split() in may_be(whole[range_], callers(name)[start]), line


@pytest.mark.parametrize("rate", LISTED)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_is_listed(
    name: str, rate: float, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each line is one of the whole list, or goes without what is lost."""
    _, lines = listed(image(name).open_file([])[0], capfd)
    whole = by_range(lines)
    good = 0
    for seed in SEEDS:
        status, lines = listed(damaged(name, rate, seed), capfd)
        assert status == 1 or not lines, seed
        good += bool(lines)
        check_lines(name, lines, whole)
    # So few seeds tell no share, but that all but one list is not luck.
    assert good >= min(len(SEEDS) * LISTED[rate], len(SEEDS) - 1)


@pytest.mark.parametrize("share", (0.3, 0.5, 0.8))
@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_of_a_file_is_listed(
    name: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    """A slice has its areas first: however much is cut off, they are found."""
    _, lines = listed(image(name).open_file([])[0], capfd)
    whole = by_range(lines)
    end = int(len(image(name).data) * share)
    status, lines = listed(image(name).open_file([Cut(end)])[0], capfd)
    assert status == 1
    check_lines(name, lines, whole)
    in_use = sum("unpurged" not in line for line in whole.values())
    assert len(lines) > 0.9 * in_use


def test_search_tells_how_far_it_is() -> None:
    """All that is left is looked through, and whoever waits for it is told."""
    told: list[tuple[int, int]] = []
    cut = Cut(len(image("6.12").data) // 2)
    with Target(image("6.12").open_file([cut])[0]) as target:
        target.on_search = lambda done, total: told.append((done, total))
        snapshot.take_snapshot(target)
    assert told == sorted(told) and {total for _, total in told} == {told[-1][0]}
    assert 0.8 * cut.size < told[-1][0] < cut.size


def as_freed(prog: Program, area: Object) -> Iterator[tuple[int, int]]:
    """Yield where a word is, and another that would be there if the area were freed."""
    # Slabs keep a pointer, mixed up with a random number, in the middle of what is free.
    yield area.rb_node.rb_left.address_of_().value_(), 0x1234567887654321
    # Its vm_struct was freed as well, and used again.
    yield area.vm.addr.address_of_().value_(), 0xFFFFC90000000000
    # It was taken out of its list.
    yield area.list.next.address_of_().value_(), 0xDEAD000000000100


@pytest.mark.parametrize("name", NAMES)
def test_freed_areas_are_not_listed(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nothing leads to areas, what looks like one but was freed is none."""
    prog = image(name).open_file([])[0]
    cut = Cut(len(image(name).data) // 2)
    _, lines = listed(image(name).open_file([cut])[0], capfd)
    areas = take_snapshot(prog).areas
    at = next(
        at
        for at in range(20, len(areas))
        if any(line.startswith(f"{areas.start[at]:#x}-") for line in lines)
        and not Object(
            prog, "struct vmap_area", address=int(areas.address[at])
        ).rb_node.rb_left
    )
    area = Object(prog, "struct vmap_area", address=int(areas.address[at]))
    own = f"{areas.start[at]:#x}-"
    for address, word in as_freed(prog, area):
        offset = image(name).at_virtual(address)
        assert offset is not None and offset + 8 <= cut.size
        write = Write(offset, word.to_bytes(8, "little").hex(), "")
        _, fewer = listed(image(name).open_file([write, cut])[0], capfd)
        assert set(fewer) < set(lines)
        assert not any(line.startswith(own) for line in fewer)
        assert len(fewer) >= len(lines) - 3


@pytest.mark.parametrize("member", ["va_start", "va_end"])
@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_is_not_found_either(
    name: str, member: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where types are wrong, an area that nothing leads to is no better than others."""
    _, lines = listed(image(name).open_file([])[0], capfd)
    prog = image(name).open_file([])[0]
    load_types(prog)
    right = prog.type("struct vmap_area")
    assert right.members is not None
    wrong = prog.struct_type(
        right.tag,
        right.size,
        [
            (
                TypeMember(prog.type("char"), one.name, one.bit_offset)
                if one.name == member
                else one
            )
            for one in right.members
        ],
    )
    prog.register_type_finder(
        "wrong",
        lambda _, kinds, tag, file: (
            wrong if tag == wrong.tag and TypeKind.STRUCT in kinds else None
        ),
        enable_index=0,
    )
    status, some = listed(prog, capfd)
    assert status != 0
    check_lines(name, some, by_range(lines))


@pytest.mark.parametrize("rate", [0, 1])
def test_debug_info_is_looked_for_where_types_are_lost(
    rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not where a kernel has them itself, as it takes long to load."""
    prog = damaged("6.12", rate, 0)
    asked: list[Program] = []
    monkeypatch.setattr(opening, "Program", lambda: prog)
    monkeypatch.setattr(opening, "_open", lambda *_: None)
    monkeypatch.setattr(opening, "_with_debug_info", asked.append)
    opening.open_target(core="core")
    assert asked == [prog] * rate


def torn(data: bytes, seed: int, rate: float = 0.05) -> Torn:
    """Return data without some of its pages."""
    draw = random.Random(seed)
    pages = [at for at in range(0, len(data), PAGE) if draw.random() < rate]
    lost = [(at, min(at + PAGE, len(data))) for at in pages]
    left = bytearray(data)
    for begin, end in lost:
        left[begin:end] = bytes(end - begin)
    joined: list[tuple[int, int]] = []
    for begin, end in lost:
        if joined and joined[-1][1] == begin:
            begin = joined.pop()[0]
        joined.append((begin, end))
    return Torn(bytes(left), tuple(joined))


@pytest.mark.parametrize("name", NAMES)
def test_types_keep_their_numbers(name: str) -> None:
    """Whatever type is found is the one that has this number."""
    prog = image(name).open_file([])[0]
    symbols = carried_by(prog).kallsyms
    start, stop = (
        symbols.find(prog, f"__{end}_BTF", None, True)[0].address
        for end in ("start", "stop")
    )
    data = prog.read(start, stop - start)
    whole = BtfData(data)
    for seed in SEEDS:
        left = read_btf(torn(data, seed), "little")
        numbered = left.ids < UNNUMBERED
        ids, starts = left.ids[numbered], left.starts[numbered]
        assert (whole.starts[ids - 1] == starts).all(), seed
        assert len(ids) > len(whole.ids) // 3, seed


@pytest.mark.parametrize("name", NAMES)
def test_symbols_keep_their_names(name: str) -> None:
    """Whatever symbol is found has its address, its name and its size."""
    prog = image(name).open_file([])[0]
    whole = carried_by(prog).kallsyms
    known = {
        (one.name, one.address, one.kind): one.size
        for one in whole.find(prog, None, None, False)
    }
    for seed in list(SEEDS)[:1]:
        part = damaged(name, 0.03, seed)
        kallsyms = carried_by(part).kallsyms
        assert kallsyms.is_torn
        found = kallsyms.find(part, None, None, False)
        assert len(found) > len(known) // 2
        for one in found:
            # Without the next symbol's address, a size is not known.
            assert one.size in (0, known[one.name, one.address, one.kind])
