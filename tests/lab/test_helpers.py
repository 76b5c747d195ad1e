# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The helpers for drgn's prompt, against the fixture module and drgn's own helpers.
"""

from __future__ import annotations

import pytest
from drgn import Program
from drgn.helpers.linux.mm import for_each_vmap_area

from drgn_vmap.helpers import (
    decode_vm_struct_flags,
    decode_vmap_area_flags,
    find_vmap_block,
    for_each_valid_vmap_area,
    for_each_vmap_block,
    identify_vmap_address,
    vmap_block_used_ranges,
)
from tests.expect.blocks import OLD

from .truth import Mapping, Truth
from .vmcore import Vmcore

PAGE = 4096


@pytest.fixture(scope="module")
def prog(vmcores: dict[str, Vmcore]) -> Program:
    """The vmcore of a kernel, as at drgn's prompt."""
    vmcore = vmcores["elf"]
    opened = Program()
    opened.set_core_dump(vmcore.path)
    opened.load_debug_info([vmcore.kernel.vmlinux])
    return opened


def live_in_blocks(vmcore: Vmcore) -> list[Mapping]:
    mappings = Truth.parse(vmcore.truth.decode()).mappings
    return [one for one in mappings if one.live and one.area == "block"]


def test_blocks(prog: Program, vmcores: dict[str, Vmcore]) -> None:
    """The block of each mapping is found, and its pages are used ones."""
    vmcore = vmcores["elf"]
    live = live_in_blocks(vmcore)
    assert len(live) > 20
    every = {vb.value_() for vb in for_each_vmap_block(prog)}
    found = {one.address: find_vmap_block(prog, one.address) for one in live}
    assert {vb.value_() for vb in found.values()} <= every
    for mapping in live:
        vb = found[mapping.address]
        first = (mapping.address - vb.va.va_start.value_()) // PAGE
        end = first + mapping.pages
        if vmcore.kernel.name not in OLD:
            ranges = list(vmap_block_used_ranges(vb))
            assert any(a <= first and end <= b for a, b in ranges), mapping
            assert "VMAP_RAM|VMAP_BLOCK" in decode_vmap_area_flags(vb.va)
    assert not find_vmap_block(prog, PAGE)


def test_areas(prog: Program, vmcores: dict[str, Vmcore]) -> None:
    """In a sound kernel the checked walk is drgn's own; pages of areas are known."""
    mine = [va.value_() for va in for_each_valid_vmap_area(prog)]
    assert mine == [va.value_() for va in for_each_vmap_area(prog)]
    truth = Truth.parse(vmcores["elf"].truth.decode())
    own = [one for one in truth.mappings if one.live and one.area == "own"]
    for mapping in own:
        last = mapping.address + mapping.pages * PAGE - 1
        found = identify_vmap_address(prog, last)
        assert found is not None
        assert (found.page_index, found.offset) == (
            mapping.pages - 1,
            mapping.pages * PAGE - 1,
        )
        if mapping.kind == "vmalloc_user":
            assert decode_vm_struct_flags(found.vm).startswith("VM_ALLOC|VM_USERMAP")
        if mapping.kind == "vm_map_ram":
            assert not found.vm
    assert len(own) > 10 and identify_vmap_address(prog, PAGE) is None
