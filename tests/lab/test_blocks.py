# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
``vmap blocks`` against the fixture module's list: page for page, block for block.

Nobody else in the guests calls vm_map_ram(), so the blocks hold the module's
mappings and nothing more. The kernel hands pages out by the power of two.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Iterable

from .conftest import Vmcore
from .guest import Guest
from .stress import runs_under_stress
from .truth import Mapping, Truth

ROOT = Path(__file__).parents[2]
LIVE = "drgn -q -c /proc/kcore scripts/vmap_blocks.py"
STRESS_RUNS = 10  # on each kernel

#: Since commit d76f99548cf0 ("mm/vmalloc.c: add used_map into vmap_block to track
#: space of vmap_block") (in v6.3).
WITHOUT_USED_MAP = {"5.10", "6.1"}


def on_vmcore(vmcore: Vmcore, *args: str) -> str:
    """Run blocks on a vmcore, as a person would, and return what it prints."""
    command = [sys.executable, "-m", "drgn", "-q", "-c", str(vmcore.path)]
    command += ["-s", str(vmcore.kernel.vmlinux), str(ROOT / "scripts/vmap_blocks.py")]
    result = subprocess.run(
        [*command, *args], capture_output=True, text=True, timeout=300
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def on_live(guest: Guest, *args: str) -> str:
    """Run blocks in the guest and return what it prints."""
    result = guest.run(" ".join((LIVE, *args)), timeout=300)
    assert (result.status, result.stderr) == (0, b"")
    return result.stdout.decode()


def in_blocks(truth: Truth) -> list[Mapping]:
    return [mapping for mapping in truth.mappings if mapping.area == "block"]


def taken(mapping: Mapping) -> int:
    """Return the pages that the kernel takes out of a block for a mapping."""
    return 1 << (mapping.pages - 1).bit_length()


def page_set(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {page for first, end in ranges for page in range(first, end)}


def compare(
    document: dict[str, Any], truth: Truth, kernel: str, translated: bool = True
) -> None:
    """
    Hold every block against the mappings that were made in it.

    :param translated: Whether the page table can be read.
    """
    size = document["block_bytes"]
    assert size == document["bits_per_block"] * truth.page_size
    made: dict[int, list[Mapping]] = defaultdict(list)
    for mapping in in_blocks(truth):
        made[mapping.address // size * size].append(mapping)
    assert len(made) >= 2
    assert [int(b["start"], 16) for b in document["blocks"]] == sorted(made)
    for block in document["blocks"]:
        mappings = made[int(block["start"], 16)]
        compare_block(document, block, mappings, truth, kernel, translated)
    compare_sums(document, in_blocks(truth), len(made), translated)


def compare_block(
    document: dict[str, Any],
    block: dict[str, Any],
    mappings: list[Mapping],
    truth: Truth,
    kernel: str,
    translated: bool,
) -> None:
    """Each page, the counters and the CPU of one block are what was done to it."""
    live = [mapping for mapping in mappings if mapping.live]
    freed = [mapping for mapping in mappings if not mapping.live]

    def pages_of(mapping: Mapping, count: int) -> range:
        first = (mapping.address - int(block["start"], 16)) // truth.page_size
        return range(first, first + count)

    mapped = {page for m in live for page in pages_of(m, m.pages)}
    used = {page for m in live for page in pages_of(m, taken(m))}
    if translated:
        assert page_set(block["mapped_ranges"]) == mapped
    else:
        assert "mapped_ranges" not in block
    if kernel in WITHOUT_USED_MAP:
        assert "used_ranges" not in block and "used_pages" not in block
    else:
        assert page_set(block["used_ranges"]) == used
        assert block["used_pages"] == len(used)
    given = sum(map(taken, mappings))
    assert block["dirty_pages"] == sum(map(taken, freed))
    assert block["stranded_pages"] == block["dirty_pages"]
    assert block["free_pages"] == document["bits_per_block"] - given
    assert block["purgeable"] == (not live)
    if block["free_pages"]:
        assert {m.cpu for m in mappings} == {block["on_free_list_of_cpu"]}
    else:
        assert "on_free_list_of_cpu" not in block


def compare_sums(
    document: dict[str, Any], mappings: list[Mapping], blocks: int, translated: bool
) -> None:
    totals = document["totals"]
    live = [mapping for mapping in mappings if mapping.live]
    assert totals["blocks"] == blocks
    if translated:
        assert totals["mapped_pages"] == sum(mapping.pages for mapping in live)
    else:
        assert "mapped_pages" not in totals
    freed = [mapping for mapping in mappings if not mapping.live]
    assert totals["stranded_pages"] == sum(map(taken, freed))
    for queue in document["per_cpu"]:
        on_it = [
            block["free_pages"]
            for block in document["blocks"]
            if block.get("on_free_list_of_cpu") == queue["cpu"]
        ]
        assert (queue["blocks"], queue["free_pages"]) == (len(on_it), sum(on_it))


def test_vmcore(vmcore: Vmcore) -> None:
    """In a vmcore every mapping is where the module made it."""
    document = json.loads(on_vmcore(vmcore, "--json"))
    assert document["problems"] == []
    compare(document, Truth.parse(vmcore.truth.decode()), vmcore.kernel.name)


def test_live(module_guest: Guest) -> None:
    """On a live kernel too, where a reset leaves nothing of the blocks before."""
    module_guest.write("/proc/vmap_lab", b"reset")
    document = json.loads(on_live(module_guest, "--json"))
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    assert document["problems"] == []
    compare(document, truth, module_guest.kernel.name)


def test_map(vmcore: Vmcore) -> None:
    """The drawing has a character for each page, and says what each is."""
    truth = Truth.parse(vmcore.truth.decode())
    mapping = next(m for m in in_blocks(truth) if m.live)
    legend, *blocks, summary = on_vmcore(
        vmcore, "--map", "--address", hex(mapping.address)
    ).split("\n\n")
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
    everything = json.loads(on_vmcore(vmcore, "--json"))["blocks"]
    of_cpu = json.loads(on_vmcore(vmcore, "--json", "--cpu", "0"))["blocks"]
    assert of_cpu == [b for b in everything if b.get("on_free_list_of_cpu") == 0]
    assert of_cpu
    assert json.loads(on_vmcore(vmcore, "--json", "--address", "1"))["blocks"] == []


def test_while_blocks_come_and_go(module_guest: Guest) -> None:
    """Under stress each run ends well, and always has the mappings that stay."""
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    stay = [mapping for mapping in in_blocks(truth) if mapping.live]
    for status, out, err in runs_under_stress(
        module_guest, STRESS_RUNS, "blocks --json"
    ):
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
