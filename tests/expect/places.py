# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `addr` has to say of the pages that the fixture module mapped."""

from __future__ import annotations

from typing import Any

from tests.lab.truth import Mapping, Truth

from .areas import KINDS

__all__ = ("NOT_IN_USE", "PAGE", "expect_frames", "expect_pages", "frames_of")

PAGE = 4096
NOT_IN_USE = {"lazy", "purging", "pool", "free"}


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


def expect_pages(places: list[Any], truth: Truth) -> int:
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
