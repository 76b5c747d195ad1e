# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Does kcore tell the truth?
--------------------------

Classes, certainty, sums and texts, on kernels made by hand: what their kcore returns
is written down here as mm/vmalloc.c does it, and what memory holds beside it.
"""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from drgn_vmap._numpy import U64Array, np
from drgn_vmap.analyses.certainty import Measurer
from drgn_vmap.analyses.check import Scope, Tally, find_targets, primers, sum_up
from drgn_vmap.commands import run
from drgn_vmap.errors import TargetError
from drgn_vmap.kernel.memory.kcore import NOWHERE, Kcore
from drgn_vmap.model.areas import VMAP_BLOCK, VMAP_RAM, Snapshot, State
from drgn_vmap.model.kcore import KcoreCheck, KcoreRules, PageClass
from drgn_vmap.render.check import check_json, check_text
from tests.fakes.kcore import FakeViews, page
from tests.fakes.kernel import FakeArea, FakeKernel
from tests.fakes.snapshots import BASE, PAGE, area, snapshot_of

VM_IOREMAP, VM_ALLOC, VM_UNINITIALIZED, VM_NO_GUARD = 0x1, 0x2, 0x20, 0x40
VM_SPARSE = 0x1000
NEW, OLD = KcoreRules(True, True, True), KcoreRules(False, False, False)
ZEROS = bytes(PAGE)
BLOCK = 64
"""Pages of the block here, and the index of its first page."""
Reader = Callable[[int], Optional[bytes]]

KERNEL = snapshot_of(
    [
        area(0, 4, flags=VM_ALLOC, nr_pages=3),
        area(4, 3, flags=VM_IOREMAP),
        area(8, 3, flags=VM_ALLOC | VM_UNINITIALIZED, nr_pages=2),
        area(12, 2, flags=VM_ALLOC | VM_NO_GUARD, nr_pages=2),
        area(16, 3, flags=VM_SPARSE),
        area(20, 3, va_flags=VMAP_RAM),
        area(BLOCK, BLOCK, va_flags=VMAP_RAM | VMAP_BLOCK, is_block=True),
        area(200, 2, State.LAZY),
    ]
)
MAPPED = [0, 1, 2, 4, 8, 12, 13, 16, 20, 21, 22, *range(BLOCK + 2, BLOCK + 6)]


def at(number: int) -> int:
    return BASE + number * PAGE


def memory() -> Dict[int, bytes]:
    return {at(number): page(number + 1) for number in MAPPED}


def truthful(pages: Dict[int, bytes]) -> Reader:
    return lambda address: pages.get(address, ZEROS)


def since_6_4(pages: Dict[int, bytes]) -> Reader:
    """vread_iter(): blocks begin at the first used page, what is skipped is zero."""

    def read(address: int) -> bytes:
        number = (address - BASE) // PAGE
        if number in (3, *range(4, 7), *range(8, 11), *range(16, 19)):
            return ZEROS
        if number >= BLOCK:
            return pages[at(BLOCK + 2)] if number >= BLOCK + 2 else ZEROS
        return pages.get(address, ZEROS)

    return read


def until_6_2(last_vm: int) -> Callable[[Dict[int, bytes]], Reader]:
    """vread(): nothing without vm is read, and behind the last vm nothing is done."""

    def reader(pages: Dict[int, bytes]) -> Reader:
        def read(address: int) -> Optional[bytes]:
            number = (address - BASE) // PAGE
            if number >= last_vm:
                return None
            if number in (3, *range(4, 7)) or number >= 20:
                return ZEROS
            return pages.get(address, ZEROS)

        return read

    return reader


def check(
    reader: Callable[[Dict[int, bytes]], Reader],
    rules: KcoreRules = NEW,
    scope: Scope = Scope(all_pages=True),
    change: Callable[[FakeViews], None] = lambda views: None,
    now: Snapshot = KERNEL,
    batch: int = 1000,
) -> KcoreCheck:
    """Measure the kernel."""
    pages = memory()
    views = FakeViews(pages, reader(pages))
    change(views)
    targets = find_targets(KERNEL, scope, rules)
    tally = Tally(targets)
    measurer = Measurer(targets, rules, views, lambda _: now, lambda _: None)
    for some in targets.batches(batch):
        tally.add(some, *measurer.measure(some))
    return sum_up(targets, tally, rules, ())


def counts(found: KcoreCheck) -> List[Dict[str, int]]:
    """Return the number of pages by class, an area an element."""
    return [{c.label: n for c, n in one.pages.items()} for one in found.areas]


def classes(found: KcoreCheck, number: int) -> Dict[str, int]:
    """Return the same of the area that begins at a page."""
    [one] = [one for one in found.areas if one.start == at(number)]
    return {c.label: n for c, n in one.pages.items()}


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_since_6_4(batch: int) -> None:
    """Each page of a block behind the first used one has that one's bytes."""
    found = check(since_6_4, batch=batch)
    assert counts(found) == [
        {"equal": 3, "by-design": 1},
        {"by-design": 3},
        {"by-design": 3},
        {"equal": 2},
        {"by-design": 3},
        {"equal": 3},
        {"equal": 1, "wrong": 3, "unmapped-wrong": BLOCK - 6, "unmapped-zero": 2},
    ]
    block = found.areas[-1]
    assert [f.page for f in block.findings] == list(range(3, BLOCK))
    assert {f.same_as_page for f in block.findings} == {2}
    assert found.verdict == {
        "vmalloc": "equal",
        "vm_map_ram": "equal",
        "vmap_block": "wrong",
    }
    assert found.found_bad


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_until_6_2(batch: int) -> None:
    """Zeros below the last area with a vm, stale bytes from there on."""
    found = check(until_6_2(BLOCK + 4), OLD, batch=batch)
    assert classes(found, 8) == {"equal": 1, "by-design": 1, "unmapped-zero": 1}
    assert classes(found, 20) == {"zero": 3}
    assert classes(found, BLOCK) == {"unmapped-zero": 2, "zero": 2, "stale": BLOCK - 4}
    assert found.verdict == {
        "vmalloc": "equal",
        "vm_map_ram": "zero",
        "vmap_block": "zero",
    }


def test_stale_guard() -> None:
    """A guard page that repeats what was read before is stale, and no memory is lost."""
    found = check(lambda pages: lambda a: None if a == at(3) else pages.get(a, ZEROS))
    assert classes(found, 0) == {"equal": 3, "stale": 1}
    assert found.verdict["vmalloc"] == "equal" and found.found_bad


def test_truthful() -> None:
    """Where all is as memory has it nothing is found."""
    found = check(truthful)
    assert not found.found_bad
    assert set(found.verdict.values()) == {"equal"}
    # What kcore may leave out and does not is equal too.
    assert classes(found, 4) == {"equal": 1, "by-design": 2}


def test_pages_of_zeros_prove_nothing() -> None:
    """They are equal, and said to be blank."""

    def blank(views: FakeViews) -> None:
        views.pages.update({at(number): ZEROS for number in (20, 21, 22)})

    found = check(until_6_2(BLOCK + 4), OLD, change=blank)
    assert classes(found, 20) == {"equal": 3}
    [ram] = [one for one in found.areas if one.kinds == ("vm_map_ram",)]
    assert ram.blank == 3
    assert "prove" in check_text(found)


def test_devices_are_left_alone() -> None:
    """What is no RAM is read through kcore only where that reads no memory."""
    seen: List[FakeViews] = []

    def device(views: FakeViews) -> None:
        views.no_ram = {at(4), at(12)}
        seen.append(views)

    found = check(since_6_4, change=device)
    assert classes(found, 4) == {"by-design": 3}
    assert classes(found, 12) == {"equal": 1, "unreadable": 1}
    assert at(12) not in seen[0].touched and at(4) in seen[0].touched


def test_contents_that_keep_changing() -> None:
    """They are no mistake of kcore's."""

    def busy(views: FakeViews) -> None:
        numbers = iter(range(10**6, 10**7))

        def write(address: int) -> None:
            if address == at(1):
                views.pages[address] = page(next(numbers))

        views.on_read = write
        stop = views.reader
        views.reader = lambda a: page(7) if a == at(1) else stop(a)

    found = check(since_6_4, change=busy)
    assert classes(found, 0) == {"equal": 2, "raced": 1, "by-design": 1}


@pytest.mark.parametrize("looks, expected", [(1, "equal"), (4, "equal"), (9, "zero")])
def test_caught_amidst_a_change(looks: int, expected: str) -> None:
    """What is odd for a while only is read until it is as it should be."""

    def passing(views: FakeViews) -> None:
        stop = views.reader

        def read(address: int) -> Optional[bytes]:
            late = views.looks > looks
            return ZEROS if address == at(20) and not late else stop(address)

        views.reader = read

    found = check(truthful, change=passing)
    other = 3 if expected == "equal" else 2
    assert classes(found, 20)["equal"] == other
    assert found.found_bad == (expected != "equal")


def test_area_that_is_gone() -> None:
    """What is odd where an area was, and is no more, was a race."""
    areas = KERNEL.areas
    gone = replace(KERNEL, areas=areas.take(areas.start != at(0)))

    def unmap(views: FakeViews) -> None:
        views.pages.pop(at(1))
        views.reader = lambda a: ZEROS if a == at(0) else views.pages.get(a, ZEROS)

    found = check(truthful, change=unmap, now=gone)
    assert classes(found, 0) == {"equal": 1, "raced": 2, "by-design": 1}
    still = check(truthful, change=unmap)
    assert classes(still, 0) == {
        "equal": 1,
        "zero": 1,
        "unmapped-zero": 1,
        "by-design": 1,
    }


def test_stale_where_an_area_was() -> None:
    """What is behind all areas now is stale, but it is no area's page."""
    areas = KERNEL.areas
    gone = replace(KERNEL, areas=areas.take(areas.start != at(12)))

    def unmap(views: FakeViews) -> None:
        views.pages.pop(at(12))
        views.pages.pop(at(13))

    found = check(until_6_2(12), OLD, change=unmap, now=gone)
    assert classes(found, 12) == {"raced": 2}
    assert classes(found, 20) == {"stale": 3}


@pytest.mark.parametrize(
    "scope, pages",
    [
        (Scope(), [3, 2, 2, 2, 2, 3, BLOCK]),
        (Scope(all_pages=True), [4, 3, 3, 2, 3, 3, BLOCK]),
        (Scope(kinds=["vm_map_ram"]), [3]),
        (Scope(range=(at(1), at(5)), all_pages=True), [3, 1]),
        (Scope(range=(at(2) + 5, at(2) + 6), all_pages=True), [1]),
        (Scope(limit_pages=5), [3, 2]),
        (Scope(limit_pages=1), [1]),
    ],
)
def test_scope(scope: Scope, pages: List[int]) -> None:
    """Kinds, range, limit and sample; those of vm_map_ram() come first."""
    found = check(since_6_4, scope=scope)
    assert [sum(one.pages.values()) for one in found.areas] == pages
    assert found.pages == sum(pages)


def test_sample_is_spread() -> None:
    """A large area is read at its first page, its last one, and between."""
    large = snapshot_of([area(0, 1001, flags=VM_ALLOC, nr_pages=1000)])
    targets = find_targets(large, Scope(), NEW)
    [pages] = targets.batches(1000)
    assert len(pages.index) == 16
    assert (pages.index[0], pages.index[-1]) == (0, 999)
    assert set(np.diff(pages.index).tolist()) <= {66, 67}


def test_primers() -> None:
    """They are pages that vmalloc() is done with."""
    assert primers(KERNEL).tolist() == [at(0), at(12)]


def test_json() -> None:
    """The document has what interface.md promises."""
    body = check_json(check(since_6_4))
    assert json.loads(json.dumps(body)) == body
    assert body["totals"]["vmap_block"]["wrong"] == 3
    assert list(body["totals"])[:2] == ["vmalloc", "ioremap"]
    block = body["areas"][-1]
    assert block["start"] == hex(at(BLOCK)) and block["kinds"] == ["vmap_block"]
    assert block["examples"][0] == {"page": 3, "class": "wrong", "same_as_page": 2}


def test_text() -> None:
    """A person sees sums, the verdict, and whose bytes came."""
    text = check_text(check(since_6_4))
    assert "pages 3-5: wrong, the bytes of page 2" in text
    assert f"pages 6-{BLOCK - 1}: unmapped-wrong, the bytes of page 2" in text
    assert "vmap_block  wrong" in text
    assert "see --all-pages" not in text
    nothing = check_text(check(since_6_4, scope=Scope(kinds=["vmap"])))
    assert "no page" in nothing and "none-found" in nothing


def test_nothing_is_said_of_what_cannot_be_read() -> None:
    """A kind of which no page could be read has no verdict."""
    found = check(truthful, change=lambda views: views.no_ram.update(memory()))
    assert found.totals["vm_map_ram"] == {PageClass.UNREADABLE: 3}
    assert found.verdict["vm_map_ram"] == "none-found"


def test_many_findings_are_bounded() -> None:
    """No more examples than pages of a block are kept of an area."""
    large = snapshot_of([area(0, 3000, va_flags=VMAP_RAM)])
    views = FakeViews({at(n): page(n + 1) for n in range(3000)}, lambda a: ZEROS)
    targets = find_targets(large, Scope(), OLD)
    tally = Tally(targets)
    measurer = Measurer(targets, OLD, views, lambda _: large, lambda _: None)
    for some in targets.batches(512):
        tally.add(some, *measurer.measure(some))
    [one] = tally.areas()
    assert one.pages == {PageClass.ZERO: 3000}
    assert len(one.findings) == 1024 and one.findings_left_out == 3000 - 1024


@pytest.mark.parametrize(
    "args, word",
    [
        ([], "kcore"),
        (["--limit-pages", "0"], "at least 1"),
        (["--kind", "unpurged"], "vm_map_ram"),
    ],
)
def test_cannot(args: List[str], word: str, capsys: Any) -> None:
    """On anything but a running kernel it declines in a line."""
    kernel = FakeKernel([FakeArea(BASE, 4, VM_ALLOC)])
    assert run("check", kernel.program(), args) == 2
    out, err = capsys.readouterr()
    assert out == "" and word in err and len(err.splitlines()) == 1


# The file itself

_RAM, _TEXT = 0x100000, 0x102000
_VMALLOC = {32: 0xC0000000, 64: BASE}


def kcore_file(path: Path, bits: int = 64, order: str = "<") -> Path:
    """Write a core with a vmalloc segment, RAM, and the kernel's text within it."""
    no_ram = (1 << bits) - 1
    segments = [
        (_VMALLOC[bits], no_ram, 3 * PAGE - 1, 0x2000),
        (0x7000, _RAM, 4 * PAGE, 0x5000),
        (0x9000, _TEXT, PAGE, 0x7000),
    ]
    word, entry = ("Q", "IIQQQQQQ") if bits == 64 else ("I", "IIIIIIII")
    header = f"{order}HHI{word * 3}IHHHHHH"
    first = 16 + struct.calcsize(header)
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    fields = (4, 62, 1, 0, first, 0, 0, 0, 0, len(segments) + 1, 0, 0, 0)
    text = ident + struct.pack(header, *fields)
    text += struct.pack(f"{order}{entry}", 4, *[0] * 7)
    for vaddr, paddr, size, offset in segments:
        values: Tuple[int, ...] = (1, 7, offset, vaddr, paddr, size, size, 0)
        if bits == 32:
            values = (1, offset, vaddr, paddr, size, size, 7, 0)
        text += struct.pack(f"{order}{entry}", *values)
    pages = [page(number) for number in range(9)]
    path.write_bytes(text.ljust(PAGE, b"\0") + b"".join(pages[1:]))
    return path


def addresses(*values: int) -> U64Array:
    return np.array(values, np.uint64)


@pytest.mark.parametrize("bits, order", [(64, "<"), (64, ">"), (32, "<"), (32, ">")])
def test_offsets(tmp_path: Path, bits: int, order: str) -> None:
    """The program headers tell where addresses are, and what is RAM."""
    with Kcore(PAGE, str(kcore_file(tmp_path / "kcore", bits, order))) as kcore:
        base = _VMALLOC[bits]
        virtual = kcore.virtual_offsets(
            addresses(0, base, base + 2 * PAGE, base + 3 * PAGE)
        )
        assert virtual.tolist() == [NOWHERE, 0x2000, 0x4000, NOWHERE]
        ram = kcore.ram_offsets(
            addresses(0, _RAM, _TEXT, _TEXT + PAGE, _RAM + 4 * PAGE)
        )
        assert ram.tolist() == [NOWHERE, 0x5000, 0x7000, 0x8000, NOWHERE]


def test_read(tmp_path: Path) -> None:
    """Runs, gaps, and what is behind the end."""
    with Kcore(PAGE, str(kcore_file(tmp_path / "kcore"))) as kcore:
        offsets = np.array([0x2000, 0x3000, NOWHERE, 0x8000, 0x9000, 0x1000], np.int64)
        rows = np.zeros((6, 512), np.uint64)
        ok = kcore.read(offsets, rows)
        assert ok.tolist() == [True, True, False, True, False, True]
        assert rows[:, 0].tolist() == [2, 3, 0, 8, 0, 1]
        assert (rows == rows[:, :1]).all()
        nothing = np.empty(0, np.int64)
        assert kcore.read(nothing, rows[:0]).tolist() == []


@pytest.mark.parametrize("size", [0, 3, 30, 70, 130])
def test_damaged_file(tmp_path: Path, size: int) -> None:
    """What is no ELF core, or ends too early, is refused."""
    whole = kcore_file(tmp_path / "kcore").read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[:size])
    with pytest.raises(TargetError, match="no ELF core"):
        Kcore(PAGE, str(cut))
    with pytest.raises(TargetError, match="as root"):
        Kcore(PAGE, str(tmp_path / "missing"))
