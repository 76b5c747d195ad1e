# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap addr` against the fixture module, which knows each page it mapped, against
what /proc/kcore really returns, and against the full listing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from drgn import Program
from drgn.helpers.linux.mm import pfn_to_page

from .conftest import Vmcore
from .guest import Guest
from .test_ls import KINDS
from .truth import Mapping, Truth

ROOT = Path(__file__).parents[2]
PAGE = 4096
NOT_IN_USE = {"lazy", "purging", "pool", "free"}


def on_vmcore(vmcore: Vmcore, verb: str, *args: str) -> Any:
    """Return the JSON of a verb."""
    command = [sys.executable, "-m", "drgn", "-q", "-c", str(vmcore.path)]
    command += ["-s", str(vmcore.kernel.vmlinux), f"{ROOT}/scripts/vmap_{verb}.py"]
    done = subprocess.run([*command, "--json", *args], capture_output=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


def expect_page(place: Any, mapping: Mapping, index: int, page_size: int) -> None:
    """Compare what was said of a page of a live mapping."""
    address, area = mapping.address + index * page_size, place["area"]
    assert place["phys"] == hex(mapping.pfns[index] * page_size), (place, mapping)
    assert area["state"] == "busy"
    if mapping.kind != "vm_map_ram":
        assert KINDS[mapping.kind] in area["kinds"]
    if mapping.area == "own":
        assert (area["start"], place["page"]) == (hex(mapping.address), index)
        assert not place["guard"]
        return
    size = int(area["end"], 16) - int(area["start"], 16)
    assert (area["kinds"], place["block_page"]) == (["vmap_block"], "used")
    # Blocks are aligned to their size.
    assert int(area["start"], 16) == address - address % size
    assert place["page"] == address % size // page_size


def expect_module(places: list[Any], truth: Truth) -> int:
    """Compare the pages of mappings that were asked for; return how many are live."""
    pages = {
        hex(mapping.address + index * truth.page_size): (mapping, index)
        for mapping in truth.mappings
        for index in range(mapping.pages)
    }
    live = 0
    for place in places:
        mapping, index = pages[place["address"]]
        if mapping.live:
            live += 1
            expect_page(place, mapping, index, truth.page_size)
        elif mapping.area == "block":
            assert place["block_page"] == "freed"
    return live


def frames_of(truth: Truth) -> list[str]:
    """Return a physical address in each frame that is mapped."""
    live = (one for one in truth.mappings if one.live)
    frames = {frame for mapping in live for frame in mapping.pfns}
    return [f"phys:{frame * PAGE + 8:x}" for frame in sorted(frames)]


def expect_frames(places: list[Any], truth: Truth) -> None:
    """Expect each page of each mapping among the places where its frame is mapped."""
    found = {(place["asked"], place["address"]) for place in places}
    for mapping in truth.mappings:
        for index, frame in enumerate(mapping.pfns if mapping.live else ()):
            address = hex(mapping.address + index * PAGE + 8)
            assert (f"phys:{frame * PAGE + 8:x}", address) in found


def test_live(module_guest: Guest) -> None:
    """Each page, where its frames are mapped, and what kcore returns for it."""
    module_guest.write("/proc/vmap_lab", b"reset")
    command = "drgn -q -c /proc/kcore tests/lab/inside/addr_of_module.py"
    done = module_guest.run(command, timeout=300)
    assert done.status == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    assert expect_module(found["virtual"]["addresses"], truth) > 500
    assert found["told_wrong"] == []
    mapped = {
        (place["asked"], place["address"]) for place in found["physical"]["addresses"]
    }
    for mapping in truth.mappings:
        if mapping.live:
            phys = mapping.pfns[0] * PAGE + 8
            assert (f"phys:{phys:x}", hex(mapping.address + 8)) in mapped


def test_vmcore(vmcore: Vmcore) -> None:
    """Each page in a vmcore, and what was freed shortly before it was made."""
    truth = Truth.parse(vmcore.truth.decode())
    pages = [
        hex(mapping.address + index * PAGE)
        for mapping in truth.mappings
        for index in range(mapping.pages)
    ]
    places = on_vmcore(vmcore, "addr", *pages)["addresses"]
    assert [place["address"] for place in places] == pages
    assert expect_module(places, truth) > 2000
    freed = {m.address for m in truth.mappings if not m.live and m.area == "own"}
    states = [p["area"]["state"] for p in places if int(p["address"], 16) in freed]
    assert "lazy" in states and set(states) <= NOT_IN_USE
    expect_frames(on_vmcore(vmcore, "addr", *frames_of(truth))["addresses"], truth)


def test_every_range_of_a_vmcore(vmcores: dict[str, Vmcore]) -> None:
    """The search through trees and lists finds each range that a full walk lists."""
    vmcore = vmcores["elf"]
    areas = on_vmcore(vmcore, "ls", "--all")["areas"]
    areas = [area for area in areas if int(area["start"], 16) >= PAGE]
    asked = [area["start"] for area in areas]
    asked += [hex(int(area["end"], 16) - 1) for area in areas]
    places = on_vmcore(vmcore, "addr", *asked)["addresses"]
    assert {"busy", "lazy", "free"} <= {area["state"] for area in areas}
    for area, place in zip([*areas, *areas], places):
        assert place["area"] == area


def test_neighbours(vmcores: dict[str, Vmcore]) -> None:
    """Below and above are the areas that a full walk lists before and behind."""
    vmcore = vmcores["elf"]
    areas = on_vmcore(vmcore, "ls", "--sort", "address")["areas"]
    areas = [area for area in areas if area["state"] == "busy"]
    asked = [hex(int(area["start"], 16) + PAGE - 1) for area in areas]
    places = on_vmcore(vmcore, "addr", *asked)["addresses"]
    for place, below, above in zip(places, [None, *areas], [*areas[1:], None]):
        assert (place.get("below"), place.get("above")) == (below, above)


def test_struct_pages(vmcores: dict[str, Vmcore]) -> None:
    """A struct page, or a word in it, leads to where the module mapped its page."""
    vmcore = vmcores["elf"]
    prog = Program()
    prog.set_core_dump(vmcore.path)
    prog.load_debug_info([vmcore.kernel.vmlinux])
    truth = Truth.parse(vmcore.truth.decode())
    live = [one for one in truth.mappings if one.live and one.fill]
    pages = [f"page:{pfn_to_page(prog, one.pfns[-1]).value_() + 8:x}" for one in live]
    found = on_vmcore(vmcore, "addr", *pages)["addresses"]
    where = {(place["asked"], place["address"]) for place in found}
    assert len(live) > 20
    for mapping, page in zip(live, pages):
        last = mapping.address + (mapping.pages - 1) * PAGE
        assert (page, hex(last)) in where


def test_no_struct_page(vmcores: dict[str, Vmcore]) -> None:
    """What is no struct page has no physical address, and one line says so."""
    vmcore = vmcores["elf"]
    command = [sys.executable, "-m", "drgn", "-q", "-c", str(vmcore.path)]
    command += ["-s", str(vmcore.kernel.vmlinux), f"{ROOT}/scripts/vmap_addr.py"]
    done = subprocess.run([*command, "page:1000"], capture_output=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"vmap addr: page:0x1000 is no struct page")
