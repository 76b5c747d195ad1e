# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap addr` against the fixture module, which knows each page it mapped, against
what /proc/kcore really returns, and against the full listing.
"""

from __future__ import annotations

import json

from drgn import Program
from drgn.helpers.linux.mm import pfn_to_page, virt_to_phys

from tests.expect.places import NOT_IN_USE, PAGE, expect_frames, expect_pages, frames_of
from tests.running import drgn, on_vmcore, target_of

from .guest import Guest
from .truth import Truth
from .vmcore import Vmcore


def test_live(module_guest: Guest) -> None:
    """Each page, where its frames are mapped, and what kcore returns for it."""
    module_guest.write("/proc/vmap_lab", b"reset")
    command = "drgn -q -c /proc/kcore tests/lab/inside/addr_of_module.py"
    done = module_guest.run(command, timeout=300)
    assert done.status == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    assert expect_pages(found["virtual"]["addresses"], truth) > 500
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
    assert expect_pages(places, truth) > 2000
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


def test_elsewhere(vmcores: dict[str, Vmcore]) -> None:
    """What is no vmalloc space is told by what drgn and the kernel call it."""
    vmcore = vmcores["elf"]
    prog = Program()
    prog.set_core_dump(vmcore.path)
    prog.load_debug_info([vmcore.kernel.vmlinux])
    kmalloced = prog["vmap_area_cachep"].value_()
    wanted = {
        0x400000: "user space",
        0x900000000000: "not canonical",
        kmalloced: "direct map",
        pfn_to_page(prog, 1).value_(): "struct pages",
        prog.symbol("_stext").address + 8: "the kernel image",
        prog["kcore_vmalloc"].addr.value_() - PAGE: "",
        0xFFFFFFFFFFFFE000: "nothing that is known",
    }
    places = on_vmcore(vmcore, "addr", *map(hex, wanted))["addresses"]
    for place, (address, name) in zip(places, wanted.items()):
        region = place["region"]
        assert name in region["name"] and "kcore" not in place, place
        assert int(region["start"], 16) <= address < int(region["end"], 16)
    assert places[2]["phys"] == hex(virt_to_phys(prog, kmalloced).value_())
    text = drgn(*target_of(vmcore), "scripts/vmap_addr.py", *map(hex, wanted)).stdout
    assert "free" not in text


def test_holes_in_ram(vmcores: dict[str, Vmcore]) -> None:
    """Of memory-mapped video memory there is no RAM, and behind all nodes no page."""
    vmcore = vmcores["elf"]
    asked = ["phys:a0000", "phys:ffffff000000", "phys:1000000"]
    video, nothing, ram = on_vmcore(vmcore, "addr", *asked)["addresses"]
    assert video["missing"]["page"].startswith("no RAM is there: /proc/iomem has it as")
    assert "no struct page is there" in nothing["missing"]["page"]
    assert "page" not in ram.get("missing", {})


def test_no_struct_page(vmcores: dict[str, Vmcore]) -> None:
    """What is no struct page has no physical address, and one line says so."""
    vmcore = vmcores["elf"]
    done = drgn(*target_of(vmcore), "scripts/vmap_addr.py", "page:1000")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vmap addr: page:0x1000 is no struct page")
