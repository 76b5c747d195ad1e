# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap gaps` against the kernel itself: the fixture module tries an allocation of
each size that `--fit` was asked for, and sums are added up from the lists that drgn's
own helpers walk, and from /proc/vmallocinfo.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Dict, Iterator, List, Sequence

import pytest
from drgn import Program

from tests.running import on_vmcore

from .guest import Guest
from .marks import slow
from .truth import Truth
from .vmcore import Vmcore
from .walked import walked

PAGE = 4096
MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
SPACE = 32 * TIB
TRIES = 5
RANGE = r"(?m)^0x([0-9a-f]+)-0x([0-9a-f]+) "
"""Of an area in /proc/vmallocinfo."""

Fits = List[Dict[str, Any]]
"""Answers to --fit, and what the kernel did."""

SMALL = [(pages * PAGE, PAGE) for pages in (1, 2, 3, 7, 40, 300)]
ALIGNED = [(5 * PAGE, 8 * PAGE), (MIB, MIB), (3 * MIB, 4 * MIB)]


#: Of the least of each kind to the largest that fits, and a page more.
FOR_MODULES = [
    (size, what) for what in ("data", "text") for size in (PAGE, 300 * PAGE, -1, 0)
]


def fit_and_try(guest: Guest, pairs: Sequence[tuple[int, int | str]]) -> Fits:
    """Return for each size and alignment the answer and what the kernel did."""
    arguments = " ".join(f"{size}:{how}" for size, how in pairs)
    command = "drgn -q -c /proc/kcore tests/lab/inside/fit_and_try.py"
    done = guest.run(f"{command} {arguments}", timeout=300)
    assert done.status == 0, done.stderr.decode()
    found: Fits = json.loads(done.stdout)
    assert len(found) == len(pairs)
    return found


@pytest.fixture(scope="module")
def fits(module_guest: Guest) -> Fits:
    """Answers and attempts of all that fits usually, and what modules get."""
    return fit_and_try(module_guest, [*SMALL, *ALIGNED, *FOR_MODULES])


def places(fit: dict[str, Any]) -> set[str]:
    """Return the addresses that an answer allows, which depend on the CPU."""
    return {fit["where"], *fit["pools"].values()}


def test_fit(fits: Fits) -> None:
    """What fits is where the answer said, to the page; the states fill the space."""
    for found in fits[: len(SMALL + ALIGNED)]:
        answer, tried = found["answer"], found["tried"]
        fit = answer["fit"]
        assert (fit["fits"], tried["result"]) == (True, "fits")
        assert tried["addr"] in places(fit), (fit, tried)
        states = ("busy", "lazy", "purging", "pool", "free", "unaccounted")
        assert sum(answer[state] for state in states) == answer["total"] == SPACE
        assert answer["largest_gap"] > 30 * TIB


def test_module_space(module_guest: Guest, fits: Fits) -> None:
    """The kernel's own allocator of modules gives what the answer said, to the page."""
    failed = set()
    for (_, what), found in zip(FOR_MODULES, fits[len(SMALL + ALIGNED) :]):
        fit, tried = found["answer"]["fit"], found["tried"]
        where = fit["where"]
        if what == "text":
            where = fit.get("cached", where)
        assert tried["addr"] == (where or "0x0"), (what, fit, tried)
        assert fit["fits"] == (fit["where"] is not None) == fit["after_purge"]
        if tried["result"] == "fails":
            failed.add(fit["needed"])
    assert failed
    # Since commit 12af2b83d0b1 ("mm: introduce execmem_alloc() and execmem_free()") (in
    # v6.10), modules' allocator does not let the kernel say how much it was.
    told = {int(size) for size in re.findall(FAILED, kernel_says(module_guest))}
    assert told == (failed if tried["by"] == "module_alloc" else set())
    low, high = (int(found["answer"][one], 16) for one in ("start", "end"))
    modules = module_guest.read("/proc/modules").decode().splitlines()
    assert all(low <= int(line.split()[5], 16) < high for line in modules)


FAILED = r"vmap allocation for size (\d+) failed"


def kernel_says(guest: Guest) -> str:
    """Return what the kernel said while it was asked for a module's memory."""
    said = guest.run("dmesg").stdout.decode(errors="replace")
    return "".join(re.findall(r"(?s)vmap_lab: trying.*?vmap_lab: tried", said))


#: All of it but what is in use already and less than another one.
RESERVED = 63
LARGEST = 512 * GIB


@pytest.fixture
def full_guest(module_guest: Guest) -> Iterator[Guest]:
    """The guest, with nearly all of vmalloc space taken."""
    module_guest.write("/proc/vmap_lab", f"reserve {RESERVED} {LARGEST}\n".encode())
    yield module_guest
    module_guest.write("/proc/vmap_lab", b"take 0\n")
    module_guest.write("/proc/vmap_lab", b"reserve 0\n")
    module_guest.write("/proc/vmap_lab", b"purge\n")


@slow
def test_no_room(full_guest: Guest) -> None:
    """In a full space the kernel fails where the answer said so, and only there."""
    pairs = [(LARGEST, GIB), (GIB, GIB), (128 * GIB, GIB), (7 * PAGE, PAGE)]
    [total] = re.findall(rb"MemTotal: +(\d+) kB", full_guest.read("/proc/meminfo"))
    small = 0
    for found in fit_and_try(full_guest, pairs):
        fit, tried = found["answer"]["fit"], found["tried"]
        # The module takes addresses alone, so more than there is RAM.
        refused = fit["size"] > int(total) * 1024
        assert ("refused" in fit) == refused
        has_room = tried["result"] == "fits"
        assert fit["fits"] == fit["after_purge"] == (has_room and not refused)
        if has_room:
            assert tried["addr"] in places(fit), (fit, tried)
            small += 1
        else:
            way = fit["in_the_way"]
            assert way["bytes"] > 0 and way["areas"][0]["kinds"] == ["ioremap"]
        assert found["answer"]["busy"] >= RESERVED * LARGEST
    assert small == 3


#: Each of them as often as there is room. The last one may be freed without a purge.
SIZES = (LARGEST, 32 * GIB, 2 * GIB, 32 * MIB)


def fill(guest: Guest) -> None:
    """Take what room there is for areas of the least size and larger."""
    for size in SIZES:
        take = f"while echo reserve 1 {size} > /proc/vmap_lab; do :; done 2> /dev/null"
        assert guest.run(take, timeout=300).status == 0


def room(guest: Guest) -> tuple[bool, bool]:
    """Return if the least fits, and if it does after a purge, as the kernel found."""
    [found] = fit_and_try(guest, [(SIZES[-1], SIZES[-1])])
    fit, tried = found["answer"]["fit"], found["tried"]
    assert fit["after_purge"] == (tried["result"] == "fits"), (fit, tried)
    if fit["after_purge"]:
        assert tried["addr"] in {*places(fit), fit["where_after_purge"]}, (fit, tried)
    return fit["fits"], fit["after_purge"]


@pytest.fixture
def filled_guest(full_guest: Guest) -> Guest:
    """The guest, with no room for another area of the least size."""
    # A stack that was in the way may be gone by now, so that there is room once more.
    for _ in range(TRIES):
        fill(full_guest)
        if room(full_guest) == (False, False):
            return full_guest
    pytest.fail("the guest's space does not stay full")


@slow
def test_room_after_a_purge(filled_guest: Guest) -> None:
    """What only freed areas have room for fits once they are purged, which is done."""
    filled_guest.write("/proc/vmap_lab", b"reserve less\n")
    assert room(filled_guest) == (False, True)


@slow
def test_gap_that_the_search_passes_over(filled_guest: Guest) -> None:
    """A gap can be large enough and aligned: the kernel wants room to align in."""
    reserved = filled_guest.read("/proc/vmap_lab_reserve").decode()
    *_, last = Truth.parse_mappings(reserved)
    filled_guest.write("/proc/vmap_lab", b"reserve less\n")
    filled_guest.write("/proc/vmap_lab", b"purge\n")
    with filled_guest.real_addresses():
        lines = filled_guest.read("/proc/vmallocinfo").decode()
    busy = sorted(
        (int(start, 16), int(end, 16)) for start, end in re.findall(RANGE, lines)
    )
    before = max(end for _, end in busy if end <= last.address)
    behind = min(start for start, _ in busy if start > last.address)
    if before < last.address:
        take = f"take {before} {last.address - before}\n"
        filled_guest.write("/proc/vmap_lab", take.encode())
    assert behind - last.address >= SIZES[-1] + PAGE
    assert room(filled_guest) == (False, False)


def test_sums(vmcores: dict[str, Vmcore]) -> None:
    """Each sum, the largest gap and the histogram, added up from the lists."""
    vmcore = vmcores["elf"]
    prog = Program()
    prog.set_core_dump(vmcore.path)
    prog.load_debug_info([vmcore.kernel.vmlinux])
    low = prog["vmalloc_base"].value_()
    gaps = on_vmcore(vmcore, "gaps")
    assert (int(gaps["start"], 16), gaps["total"]) == (low, SPACE)
    for state, areas in walked(prog).items():
        inside = [
            min(end, low + SPACE) - max(start, low)
            for start, end in areas
            if start < low + SPACE and end > low
        ]
        # 5.10 keeps what was freed lazily where drgn has no helper to walk.
        if state != "lazy" or areas:
            assert gaps[state] == sum(inside)
            assert gaps["ranges"][state] == len(inside)
        if state == "free":
            assert gaps["largest_gap"] == max(inside)
            classes = Counter(1 << (size.bit_length() - 1) for size in inside)
            found = {one["size"]: one["gaps"] for one in gaps["histogram"]}
            assert found == dict(classes)
    assert gaps["unaccounted"] == 0
    lazy = prog["vmap_lazy_nr"].counter.value_()
    assert gaps["lazy_pages"] == gaps["lazy_counted_pages"] == lazy > 0
    assert gaps["lazy_max_pages"] == 2 * 32 * MIB // PAGE  # fls(2 CPUs) is 2.


def test_sums_of_the_kernels_file(vmcores: dict[str, Vmcore]) -> None:
    """/proc/vmallocinfo has as many bytes in use, and as many freed lazily."""
    vmcore = vmcores["elf"]
    gaps = on_vmcore(vmcore, "gaps")
    lines = [line.split() for line in vmcore.vmallocinfo.decode().splitlines()]
    lazy = [int(words[1]) for words in lines if words[2] == "unpurged"]
    busy = [int(words[1]) for words in lines if words[2] != "unpurged"]
    assert gaps["busy"] + gaps["outside"] == sum(busy)
    assert gaps["lazy"] == sum(lazy) or vmcore.kernel.name == "5.10"
