# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What `check` has to say of the fixture module's areas, whose pages say whose they are: what
class a page is of follows from what /proc/kcore, read by drgn, returned for it.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Iterator

from tests.lab.guest import Guest
from tests.lab.truth import Truth
from tests.running import LIVE

from .blocks import OLD

__all__ = (
    "BAD",
    "FIXED",
    "ONE_CPU",
    "RAM",
    "checked_pages",
    "expect_every_page",
    "expect_per_cpu_chunks",
    "expect_topmost_guard_page",
    "expect_verdict",
    "pages_of",
)

PAGE = 4096
RAM = {"vm_map_ram", "vmap_block"}
BAD = {"zero", "wrong", "stale", "unmapped-wrong"}
POWERPC_IO = 0xC00A
"""The upper bits of addresses that PowerPC maps devices at: they are not in /proc/kcore."""

#: Built without CONFIG_SMP: no per-CPU memory is in vmalloc space.
ONE_CPU = {"6.1-up"}
#: Built with the patches of contrib/linux/.
FIXED = {"6.1-fixed"}
#: Without commit 4c91c07c93bb ("mm: vmalloc: convert vread() to vread_iter()") (in
#: v6.4), and without the patch: behind the last area nothing is put into a buffer.
STALE = {*OLD, "6.1-series"}


def checked_pages(guest: Guest, drgn: str = LIVE) -> tuple[Any, Truth]:
    """Return what all pages of a guest are said to be, and what they are."""
    guest.write("/proc/vmap_lab", b"reset")
    command = "tests/lab/inside/kcore_of_module.py --all-pages"
    with guest.real_addresses():
        done = guest.run(f"{drgn} {command}", timeout=600)
    assert done.status == 0, done.stderr.decode()
    truth = Truth.parse(guest.read("/proc/vmap_lab").decode())
    return json.loads(done.stdout), truth


def expect_every_page(result: Any, truth: Truth) -> None:
    """Each page of each mapping, and of the blocks around them, has its class."""
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


def expect_verdict(result: Any, kernel: str) -> None:
    """It is what this kernel is known to return."""
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


def expect_topmost_guard_page(result: Any, kernel: str) -> None:
    """Where no area follows, it is what was read before, on old kernels; no other page."""
    stale = [
        (area["start"], pages_of(area)[example["page"]] + PAGE)
        for area in result["document"]["areas"]
        for example in area["examples"]
        if example["class"] == "stale"
    ]
    ends = {area["start"]: int(area["end"], 16) for area in result["document"]["areas"]}
    top = result["topmost"]
    assert stale == ([(top, ends[top])] if kernel in STALE else [])


def expect_per_cpu_chunks(result: Any, full: bool = True) -> None:
    """
    The last page of each is left out by design; the others are as memory has them.

    :param full: Whether there are some that are full to their end.
    """
    areas = {area["start"]: area["pages"] for area in result["document"]["areas"]}
    tails = 0
    for start, mapped, tail_mapped in result["per_cpu"]:
        pages = areas[start]
        assert pages["by-design"] == 1
        there = pages.get("equal", 0) + pages.get("raced", 0) + tail_mapped
        assert (there, set(pages) & BAD) == (mapped, set())
        tails += tail_mapped
    assert tails or not full


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
            name = "by-design"
            if address >> 48 == POWERPC_IO:
                name = "unmapped-fault" if is_guard else "unreadable"
            if name == "unreadable":
                examples.append({"page": index, "class": name})
            assert saw == ("zeros" if name == "by-design" else "fault")
            classes[name] += 1
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


def areas_of_module(found: Any) -> Iterator[Any]:
    for area in found["document"]["areas"]:
        if area["start"] in found["seen"]:
            yield area
