# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
``vmap check`` against the fixture module, whose pages say whose they are: what class a
page is of follows from what /proc/kcore, read by drgn, returned for it.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Iterator

import pytest

from .guest import Guest
from .kernels import KERNELS
from .marks import on_all_kernels, slow
from .stress import RUNS, runs_under_stress
from .truth import Truth

pytestmark = on_all_kernels

PAGE = 4096
KPTR_RESTRICT = "/proc/sys/kernel/kptr_restrict"
RAM = {"vm_map_ram", "vmap_block"}
BAD = {"zero", "wrong", "stale", "unmapped-wrong"}

#: Without commit 06c8994626d1 ("mm/vmalloc.c: allow vread() to read out vm_map_ram
#: areas") (in v6.3).
OLD = {"5.10", "5.10-rhel8", "6.1", "6.1-plain"}
#: Built with the patches of contrib/linux/.
FIXED = {"6.1-fixed"}
#: Without commit 4c91c07c93bb ("mm: vmalloc: convert vread() to vread_iter()") (in
#: v6.4), and without the patch: behind the last area nothing is put into a buffer.
STALE = {*OLD, "6.1-series", "6.1-rhel9"}


def pages_of(area: Any) -> range:
    return range(int(area["start"], 16), int(area["end"], 16), PAGE)


def expected_area(
    area: Any, contents: dict[int, list[int]], seen: dict[str, Any]
) -> tuple[Counter[str], list[Any]]:
    """Return the classes of an area's pages, and the examples that are to be given."""
    classes, examples = Counter[str](), []
    own = [contents.get(at) for at in pages_of(area)]
    ram = bool(RAM & set(area["kinds"]))
    for index, address in enumerate(pages_of(area)):
        held, saw = own[index], seen[hex(address)]
        is_guard = not ram and index == len(own) - 1
        if "ioremap" in area["kinds"] or is_guard:
            assert saw == "zeros"
            classes["by-design"] += 1
            continue
        if saw == held:
            classes["equal"] += 1
            continue
        if saw == "zeros":
            name = "zero" if held else "unmapped-zero"
        else:
            name = "wrong" if held else "unmapped-wrong"
        classes[name] += 1
        if name in BAD:
            examples.append({"page": index, "class": name})
            if saw in own:
                examples[-1]["same_as_page"] = own.index(saw)
    return classes, examples


def contents_of(truth: Truth) -> dict[int, list[int]]:
    """Return whose page there is at each address, by fill and index."""
    return {
        mapping.address + index * PAGE: [mapping.fill, index]
        for mapping in truth.mappings
        if mapping.live and mapping.fill
        for index in range(mapping.pages)
    }


@pytest.fixture(scope="module")
def found(module_guest: Guest) -> tuple[Any, Truth]:
    """What all pages are said to be, and what they are."""
    module_guest.write("/proc/vmap_lab", b"reset")
    before = module_guest.read(KPTR_RESTRICT)
    module_guest.write(KPTR_RESTRICT, b"1")
    command = "tests/lab/inside/kcore_of_module.py --all-pages"
    done = module_guest.run(f"drgn -q -c /proc/kcore {command}", timeout=600)
    module_guest.write(KPTR_RESTRICT, before)
    assert done.status == 0, done.stderr.decode()
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    return json.loads(done.stdout), truth


def areas_of_module(found: Any) -> Iterator[Any]:
    for area in found["document"]["areas"]:
        if area["start"] in found["seen"]:
            yield area


def test_every_page(found: tuple[Any, Truth]) -> None:
    """Each page of each mapping, and of the blocks around them, has its class."""
    result, truth = found
    contents = contents_of(truth)
    checked = 0
    for area in areas_of_module(result):
        classes, examples = expected_area(area, contents, result["seen"])
        assert area["pages"] == dict(classes), area
        assert area["examples"] == examples, area
        checked += len(pages_of(area))
    live = [m for m in truth.mappings if m.live]
    assert checked > sum(m.pages for m in live)
    starts = {area["start"] for area in areas_of_module(result)}
    assert {hex(m.address) for m in live if m.area == "own"} <= starts


def test_verdict(found: tuple[Any, Truth], module_guest: Guest) -> None:
    """What this kernel is known to return."""
    result, kernel = found[0], module_guest.kernel.name
    by_kind = {kind: Counter[str]() for kind in ("vm_map_ram", "vmap_block")}
    for area in areas_of_module(result):
        for kind in area["kinds"]:
            by_kind.setdefault(kind, Counter()).update(area["pages"])
    if kernel in OLD:
        ram, block = "zero", "zero"
        assert set(by_kind["vm_map_ram"]) == {"zero"}
        assert set(by_kind["vmap_block"]) == {"zero", "unmapped-zero"}
    elif kernel in FIXED:
        ram, block = "equal", "equal"
        assert set(by_kind["vm_map_ram"]) == {"equal"}
        assert set(by_kind["vmap_block"]) == {"equal", "unmapped-zero"}
    else:
        ram, block = "equal", "wrong"
        assert set(by_kind["vm_map_ram"]) == {"equal"}
        assert by_kind["vmap_block"]["wrong"] > by_kind["vmap_block"]["equal"] > 0
    assert result["document"]["verdict"] == {
        "vmalloc": "equal",
        "vm_map_ram": ram,
        "vmap_block": block,
    }
    totals = result["document"]["totals"]
    assert {kind: totals[kind] for kind in RAM} == {k: dict(by_kind[k]) for k in RAM}
    all_classes = {c for area in result["document"]["areas"] for c in area["pages"]}
    assert (not all_classes & BAD) == (kernel in FIXED)
    assert result["status"] == (0 if kernel in FIXED else 1)


def test_topmost_guard_page(found: tuple[Any, Truth], module_guest: Guest) -> None:
    """Where no area follows, it is what was read before, on old kernels; no other page."""
    result, kernel = found[0], module_guest.kernel.name
    stale = [
        (area["start"], pages_of(area)[example["page"]] + PAGE)
        for area in result["document"]["areas"]
        for example in area["examples"]
        if example["class"] == "stale"
    ]
    ends = {area["start"]: int(area["end"], 16) for area in result["document"]["areas"]}
    top = result["topmost"]
    assert stale == ([(top, ends[top])] if kernel in STALE else [])


def test_per_cpu_chunks(found: tuple[Any, Truth]) -> None:
    """The last page of each is left out by design; the others are as memory has them."""
    result, _ = found
    areas = {area["start"]: area["pages"] for area in result["document"]["areas"]}
    tails = 0
    for start, mapped, tail_mapped in result["per_cpu"]:
        pages = areas[start]
        assert pages["by-design"] == 1
        there = pages.get("equal", 0) + pages.get("raced", 0) + tail_mapped
        assert (there, set(pages) & BAD) == (mapped, set())
        tails += tail_mapped
    assert tails > 0


def test_sample(module_guest: Guest) -> None:
    """By default all pages of vm_map_ram() are read, of other areas some; exit 0 or 1."""
    command = "drgn -q -c /proc/kcore scripts/vmap_check.py --json"
    done = module_guest.run(command, timeout=300)
    document = json.loads(done.stdout)
    for area in document["areas"]:
        pages = sum(area["pages"].values())
        whole = len(pages_of(area))
        if RAM & set(area["kinds"]):
            assert pages == whole
        else:
            assert 0 < pages <= min(16, whole)
    fixed = module_guest.kernel.name in FIXED
    assert (done.status, done.stderr) == (0 if fixed else 1, b"")


@slow
@pytest.mark.kernels(*KERNELS)
def test_under_stress(module_guest: Guest) -> None:
    """What comes and goes meanwhile is never taken for wrong; what stays has its class."""
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    stay = {hex(m.address): m for m in truth.mappings if m.live and m.area == "own"}
    try:
        runs = runs_under_stress(module_guest, "check --json")
    finally:
        # Else blocks with nothing in them would stay behind.
        module_guest.write("/proc/vmap_lab", b"reset")
    kernel, known, told = module_guest.kernel.name, 0, set()
    for status, out, err in runs:
        document = json.loads(out)
        # A run may find that all that could be wrong was changing just then.
        bad = any(BAD & set(area["pages"]) for area in document["areas"])
        assert (status, err) == (int(bad), "")
        told.add(bad)
        for area in document["areas"]:
            assert_no_false_alarm(area, kernel)
            if area["start"] in stay and "ioremap" not in area["kinds"]:
                known += 1
                lost = kernel in OLD and "vm_map_ram" in area["kinds"]
                assert set(area["pages"]) == {"zero" if lost else "equal"}, area
        assert {problem["what"] for problem in document["problems"]} <= {"racing"}
    assert known > 10 * RUNS
    assert (True in told) == (kernel not in FIXED)


def assert_no_false_alarm(area: Any, kernel: str) -> None:
    """Only what this kernel is known to do wrong is told, and proven."""
    ram = RAM & set(area["kinds"])
    for example in area["examples"]:
        if example["class"] not in BAD:
            continue
        if kernel in OLD:
            assert ram and example["class"] in ("zero", "stale"), (area, example)
        else:
            assert kernel not in FIXED and "vmap_block" in ram, (area, example)
            assert example["class"] in ("wrong", "unmapped-wrong"), (area, example)
            assert example["same_as_page"] < example["page"], (area, example)
