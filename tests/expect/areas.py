# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `ls` has to say of the areas that the fixture module made."""

from __future__ import annotations

from typing import Iterable

from tests.lab.truth import Truth

__all__ = ("KINDS", "expect_kinds")

# How the areas of each of the module's kinds are listed.
KINDS = {
    "vmap": "vmap",
    "vmap_put": "vmap",
    "vmalloc": "vmalloc",
    "vmalloc_user": "user",
    "vmalloc_huge": "vmalloc",
    "vmalloc_node": "vmalloc",
    "ioremap": "ioremap",
    "memremap": "ioremap",
}


def containing(areas: Iterable[dict[str, object]], address: int) -> dict[str, object]:
    """Return the one busy area around an address."""
    [area] = [
        area
        for area in areas
        if area["state"] == "busy"
        and int(str(area["start"]), 16) <= address < int(str(area["end"]), 16)
    ]
    return area


def expect_kinds(areas: list[dict[str, object]], truth: Truth) -> None:
    """Hold the areas around all live mappings against what these were made as."""
    live = [mapping for mapping in truth.mappings if mapping.live]
    assert len(live) > 20
    for mapping in live:
        area = containing(areas, mapping.address)
        if mapping.kind == "vm_map_ram":
            kind = "vmap_block" if mapping.area == "block" else "vm_map_ram"
        else:
            kind = KINDS[mapping.kind]
        kinds = area["kinds"]
        assert isinstance(kinds, list) and kind in kinds, mapping
        if kind != "vmap_block":
            assert int(str(area["start"]), 16) == mapping.address
