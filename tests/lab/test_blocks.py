# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
``vmap blocks`` against the fixture module's list: page for page, block for block.

Nobody else in the guests calls vm_map_ram(), so the blocks hold the module's
mappings and nothing more. The kernel hands pages out by the power of two.
"""

from __future__ import annotations

import json

from tests.expect.blocks import expect_blocks, in_blocks, page_set, taken
from tests.expect.live import expect_blocks_in
from tests.running import on_vmcore, run_on

from .guest import Guest
from .marks import slow
from .stress import runs_under_stress
from .truth import Truth
from .vmcore import Vmcore


def test_vmcore(vmcore: Vmcore) -> None:
    """In a vmcore every mapping is where the module made it."""
    document = on_vmcore(vmcore, "blocks")
    assert document["problems"] == []
    expect_blocks(document, Truth.parse(vmcore.truth.decode()), vmcore.kernel.name)


def test_live(module_guest: Guest) -> None:
    """On a live kernel too, where a reset leaves nothing of the blocks before."""
    expect_blocks_in(module_guest, module_guest.kernel.name)


def test_map(vmcore: Vmcore) -> None:
    """The drawing has a character for each page, and says what each is."""
    truth = Truth.parse(vmcore.truth.decode())
    mapping = next(m for m in in_blocks(truth) if m.live)
    words = ["scripts/vmap_blocks.py", "--map", "--address", hex(mapping.address)]
    legend, *blocks, summary = run_on(vmcore, *words).split("\n\n")
    assert legend == "# used, ! mapped but unused, x freed, . free"
    [block] = blocks
    heading, *lines = block.splitlines()
    start, end = (int(text, 16) for text in heading.split("-"))
    assert start <= mapping.address < end
    drawn = "".join(line.split()[1] for line in lines)
    assert len(drawn) == (end - start) // truth.page_size
    here = [m for m in in_blocks(truth) if start <= m.address < end]
    for other in here:
        first = (other.address - start) // truth.page_size
        character = "#" if other.live else "x"
        assert drawn[first : first + other.pages] == character * other.pages
    assert drawn.count(".") == len(drawn) - sum(map(taken, here))
    assert "stranded" in summary


def test_selections(vmcore: Vmcore) -> None:
    """--cpu keeps the blocks of that CPU, --address none where there is none."""
    everything = on_vmcore(vmcore, "blocks")["blocks"]
    of_cpu = on_vmcore(vmcore, "blocks", "--cpu", "0")["blocks"]
    assert of_cpu == [b for b in everything if b.get("on_free_list_of_cpu") == 0]
    assert of_cpu
    assert on_vmcore(vmcore, "blocks", "--address", "1")["blocks"] == []


@slow
def test_while_blocks_come_and_go(module_guest: Guest) -> None:
    """Under stress each run ends well, and always has the mappings that stay."""
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    stay = [mapping for mapping in in_blocks(truth) if mapping.live]
    for status, out, err in runs_under_stress(module_guest, "blocks --json"):
        assert (status, err) == (0, "")
        document = json.loads(out)
        pages = {
            int(block["start"], 16) + page * truth.page_size
            for block in document["blocks"]
            for page in page_set(block["mapped_ranges"])
        }
        for mapping in stay:
            assert mapping.address in pages
        assert {problem["what"] for problem in document["problems"]} <= {"racing"}
