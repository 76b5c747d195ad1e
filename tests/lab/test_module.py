# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The fixture module against the kernel: what it says it made is really there.

Its truth is what other tests compare with, so here it is compared with what neither
the module nor drgn_vmap made: /proc/vmallocinfo, the page table and memory.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Iterable, Iterator

import pytest

from .guest import Guest
from .marks import slow
from .truth import Mapping, Truth, page_bytes

PAGE = 4096
CPUS = 2
GIB = 1 << 30
STRESS_SECONDS = 20

LINE = re.compile(r"0x(\w+)-0x(\w+) +(\d+) ?(.*)")
COMPLAINT = re.compile(r"BUG|WARNING|Oops|Call Trace|refcount|Bad page|stall")
TOLERATED = re.compile(r"module verification failed|out-of-tree module taints")

LABELS = {
    "vmap": "vmap",
    "vmap_put": "vmap",
    "vmalloc": "vmalloc",
    "vmalloc_user": "vmalloc user",
    "vmalloc_node": "vmalloc",
    "vmalloc_huge": "vmalloc",
    "ioremap": "ioremap",
    "memremap": "ioremap",
}
WITH_PAGE_ARRAY = {kind for kind in LABELS if kind.startswith("vmalloc")} | {"vmap_put"}


@dataclass(frozen=True)
class Line:
    """A line of /proc/vmallocinfo."""

    start: int
    end: int
    rest: str
    """What follows the size."""


@pytest.fixture
def lab_guest(module_guest: Guest) -> Iterator[Guest]:
    """A guest with the base set alone, and real addresses in its vmallocinfo."""
    module_guest.write("/proc/sys/kernel/kptr_restrict", b"1")
    command(module_guest, "reset")
    yield module_guest
    command(module_guest, "reset")
    module_guest.write("/proc/sys/kernel/kptr_restrict", b"0")


def command(guest: Guest, line: str) -> None:
    guest.write("/proc/vmap_lab", line.encode())


def truth_of(guest: Guest) -> Truth:
    return Truth.parse(guest.read("/proc/vmap_lab").decode())


def listed(guest: Guest, name: str) -> list[Mapping]:
    """Return the mappings of a set that has a file of its own."""
    return list(Truth.parse_mappings(guest.read(f"/proc/vmap_lab_{name}").decode()))


def vmallocinfo(guest: Guest) -> list[Line]:
    lines = []
    for text in guest.read("/proc/vmallocinfo").decode().splitlines():
        match = LINE.fullmatch(text)
        assert match, text
        start, end = int(match[1], 16), int(match[2], 16)
        assert end - start == int(match[3])
        lines.append(Line(start, end, match[4]))
    return lines


def unpurged(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.rest == "unpurged vm_area"]


def covers(lines: Iterable[Line], mapping: Mapping) -> bool:
    """Whether one line has all of a mapping."""
    end = mapping.address + mapping.pages * PAGE
    return any(line.start <= mapping.address and end <= line.end for line in lines)


def kernel_log(guest: Guest) -> list[str]:
    """Return what the kernel said since it was asked to load the module."""
    lines = guest.run("dmesg").stdout.decode(errors="replace").splitlines()
    first = next(n for n, line in enumerate(lines) if "vmap_lab" in line)
    return lines[first:]


def unasked(lines: Iterable[str]) -> Iterator[str]:
    """Leave out what the kernel says when a module's memory is tried for."""
    asked = False
    for line in lines:
        asked = asked and "vmap_lab: tried" not in line or "vmap_lab: trying" in line
        if not asked:
            yield line


def complaints(guest: Guest) -> list[str]:
    return [
        line
        for line in unasked(kernel_log(guest))
        if COMPLAINT.search(line) and not TOLERATED.search(line)
    ]


def test_base_set_has_every_kind(lab_guest: Guest) -> None:
    """Nothing is absent but what the kernel at hand does not export."""
    truth = truth_of(lab_guest)
    without_huge = {"vmalloc_huge": "not-exported"}
    assert truth.page_size == PAGE
    is_old = lab_guest.kernel.name.startswith("5.10")
    assert truth.absent == (without_huge if is_old else {})
    made = {mapping.kind for mapping in truth.mappings}
    assert made | set(truth.absent) == {*LABELS, "vm_map_ram"}
    nodes = [m.node for m in truth.mappings if m.kind == "vmalloc_node"]
    assert nodes == [0, 1]
    for cpu in range(CPUS):
        in_blocks = [m for m in truth.mappings if m.area == "block" and m.cpu == cpu]
        assert {m.pages for m in in_blocks} == {1, 2, 3, 4, 5, 7, 8, 16, 31, 33, 64}
        assert {m.state for m in in_blocks} == {"live", "freed"}
    assert len({m.id for m in truth.mappings}) == len(truth.mappings)


def test_own_areas_are_listed(lab_guest: Guest) -> None:
    """Address, size, label, pages= and phys= of each; a guard page where there is."""
    by_start = {line.start: line for line in vmallocinfo(lab_guest)}
    for mapping in truth_of(lab_guest).mappings:
        if mapping.area == "block" or not mapping.live:
            continue
        line = by_start[mapping.address]
        mapped = line.end - line.start
        if mapping.kind == "vm_map_ram":
            assert (line.rest, mapped) == ("vm_map_ram", mapping.pages * PAGE)
            continue
        assert mapped == (mapping.pages + 1) * PAGE
        assert f" {LABELS[mapping.kind]} " in f" {line.rest} "
        has_array = mapping.kind in WITH_PAGE_ARRAY
        assert (f" pages={mapping.pages} " in line.rest) == has_array
        if mapping.phys is not None:
            assert f" phys=0x{mapping.phys:016x} " in line.rest
        if mapping.node is not None:
            assert line.rest.endswith(f" N{mapping.node}={mapping.pages}")
        if mapping.kind.startswith("vmalloc"):
            assert (" vpages" in line.rest) == (mapping.pages > PAGE // 8)


def test_init_text_is_the_caller_of_one(lab_guest: Guest) -> None:
    """The oldest mapping's caller has no name any more; it survives a reset."""
    first = truth_of(lab_guest).mappings[0]
    [line] = [line for line in vmallocinfo(lab_guest) if line.start == first.address]
    assert re.fullmatch(r"0x\w{16} pages=1 vmalloc N\d=1", line.rest)


def test_blocks_hold_their_mappings(lab_guest: Guest) -> None:
    """More than one block a CPU, each mapping in one, none overlapping another."""
    areas = [line for line in vmallocinfo(lab_guest) if line.rest == "vm_map_ram"]
    in_blocks = [m for m in truth_of(lab_guest).mappings if m.area == "block"]
    by_cpu: dict[int, set[int]] = {cpu: set() for cpu in range(CPUS)}
    for mapping in in_blocks:
        assert mapping.cpu is not None
        [block] = [area for area in areas if area.start <= mapping.address < area.end]
        assert covers([block], mapping)
        by_cpu[mapping.cpu].add(block.start)
    assert all(len(blocks) > 1 for blocks in by_cpu.values())
    taken = [
        address
        for mapping in in_blocks
        for address in range(
            mapping.address, mapping.address + mapping.pages * PAGE, PAGE
        )
    ]
    assert len(taken) == len(set(taken))


def test_memory_holds_what_is_said(lab_guest: Guest) -> None:
    """Each page's frame by the page table, and its contents, live or freed."""
    for line in ("many 20", "leak 3", "blocks 2", "lazy 2"):
        command(lab_guest, line)
    done = lab_guest.run(
        "drgn -q -c /proc/kcore tests/lab/inside/compare_module.py", timeout=300
    )
    assert done.status == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["pages"] > 2000


@pytest.mark.parametrize("name", ["many", "leak"])
def test_areas_on_request(lab_guest: Guest, name: str) -> None:
    """As many lines name the set's caller as were asked for, and then none."""

    def callers() -> list[int]:
        lines = vmallocinfo(lab_guest)
        return [line.start for line in lines if f"vmap_lab_{name}+" in line.rest]

    command(lab_guest, f"{name} 500")
    assert sorted(callers()) == sorted(m.address for m in listed(lab_guest, name))
    assert truth_of(lab_guest).sets[name].live == len(callers()) == 500
    command(lab_guest, f"{name} 0")
    assert not callers() and not listed(lab_guest, name)


def test_blocks_on_request(lab_guest: Guest) -> None:
    """A hundred more blocks or nearly so, all mapping the same pages."""

    def areas() -> int:
        return sum(line.rest == "vm_map_ram" for line in vmallocinfo(lab_guest))

    before = areas()
    command(lab_guest, "blocks 100")
    mappings = listed(lab_guest, "blocks")
    # Each CPU's first ones may have gone to a block the base set had begun.
    assert 100 - CPUS <= areas() - before <= 100
    assert len({tuple(mapping.pfns) for mapping in mappings}) == 1
    assert len({mapping.address for mapping in mappings}) == len(mappings)
    assert sum(not mapping.live for mapping in mappings) == 100
    command(lab_guest, "blocks 0")
    # The last ones were not full, so it takes a purge to make them die; since Linux
    # kernel commit 77e50af07f14 ("mm/vmalloc: dont purge usable blocks unnecessarily")
    # (in v6.5) a purge leaves a CPU those of which much is still free.
    command(lab_guest, "purge")
    assert 0 <= areas() - before <= CPUS


def test_lazily_freed_until_purged(lab_guest: Guest) -> None:
    """What was freed on request is listed as unpurged, and no more after a purge."""
    command(lab_guest, "purge")
    before = len(truth_of(lab_guest).mappings)
    command(lab_guest, "lazy 4")
    lines = unpurged(vmallocinfo(lab_guest))
    freed = truth_of(lab_guest).mappings[before:]
    assert len(freed) == 12 and not any(mapping.live for mapping in freed)
    assert all(covers(lines, mapping) for mapping in freed)
    command(lab_guest, "purge")
    lines = unpurged(vmallocinfo(lab_guest))
    assert not any(covers(lines, mapping) for mapping in freed)


def test_reserve_takes_space_not_memory(lab_guest: Guest) -> None:
    """Three times 512 GiB of addresses, listed as ioremap, aligned to 1 GiB."""
    command(lab_guest, f"reserve 3 {512 * GIB}")
    lines = vmallocinfo(lab_guest)
    for mapping in listed(lab_guest, "reserve"):
        assert mapping.address % GIB == 0
        assert mapping.pages * PAGE == 512 * GIB
        assert covers([line for line in lines if "ioremap" in line.rest], mapping)
    command(lab_guest, "reserve 0")
    assert listed(lab_guest, "reserve") == []


@pytest.mark.parametrize(
    "size, align, by", [(3 * PAGE, PAGE, "vmap"), (3 << 20, 4 << 20, "ioremap")]
)
def test_try(lab_guest: Guest, size: int, align: int, by: str) -> None:
    """An attempt that fits says where, aligned, and in no area that is in use."""
    command(lab_guest, f"try {size} {align}")
    attempt = truth_of(lab_guest).attempt
    assert attempt and attempt.fits and attempt.address is not None
    assert (attempt.size, attempt.align, attempt.by) == (size, align, by)
    assert attempt.address % align == 0
    lines = vmallocinfo(lab_guest)
    in_use = [line for line in lines if line not in unpurged(lines)]
    assert not any(
        line.start < attempt.address + size and attempt.address < line.end
        for line in in_use
    )


@pytest.mark.parametrize(
    "line", ["", "unknown", "many", "many x", "try 1 1", "stress", "reserve 1 1"]
)
def test_nonsense_is_refused(lab_guest: Guest, line: str) -> None:
    """A command that is none changes nothing and fails."""
    before = truth_of(lab_guest)
    with pytest.raises(OSError):
        command(lab_guest, f"{line}\n")
    assert truth_of(lab_guest) == before


@slow
def test_stress(lab_guest: Guest) -> None:
    """A minute of it: the counters run, all is freed again, the kernel is content."""
    command(lab_guest, "stress start")
    before = truth_of(lab_guest).stress
    time.sleep(STRESS_SECONDS)
    during = truth_of(lab_guest).stress
    command(lab_guest, "stress stop")
    after = truth_of(lab_guest).stress
    assert during.running and not after.running
    assert during.made - before.made > 10 * STRESS_SECONDS
    assert after.made == after.unmade
    assert complaints(lab_guest) == []


def test_unloading_leaves_nothing(lab_guest: Guest) -> None:
    """No area, no file, no complaint; and it can be loaded again."""
    for line in ("many 50", "leak 5", "blocks 5", "lazy 2", "stress start"):
        command(lab_guest, line)
    assert lab_guest.run("rmmod vmap_lab").status == 0
    with pytest.raises(OSError):
        lab_guest.read("/proc/vmap_lab")
    rest = [line.rest for line in vmallocinfo(lab_guest)]
    assert lab_guest.run("insmod /tmp/vmap_lab.ko").status == 0
    assert not [line for line in rest if "vmap_lab" in line]
    assert complaints(lab_guest) == []


def test_page_bytes() -> None:
    """The example of module/README.md: word 2 of page 4 of mapping 0x26."""
    contents = page_bytes(0x26, 4, PAGE, "big")
    assert len(contents) == PAGE
    assert contents[16:24].hex() == "a500002600040002"
    assert page_bytes(0x26, 4, PAGE, "little")[16:24] == contents[16:24][::-1]


def test_parse() -> None:
    """Runs of page frames, fields that do not apply, and a line that is none."""
    line = (
        "map id=7 kind=vmap state=freed addr=0xffffc90000000000 pages=4 area=own"
        " fill=7 pfns=12-14,20"
    )
    [mapping] = Truth.parse_mappings(line)
    assert (mapping.id, mapping.address, mapping.live) == (7, 0xFFFFC90000000000, False)
    assert tuple(mapping.pfns) == (12, 13, 14, 20)
    assert (mapping.fill, mapping.cpu, mapping.node, mapping.phys) == (
        7,
        None,
        None,
        None,
    )
    with pytest.raises(ValueError, match="not a mapping"):
        list(Truth.parse_mappings("lab page_size=4096"))
