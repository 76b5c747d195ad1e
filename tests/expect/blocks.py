# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `blocks` has to say of what the fixture module did in vmap_blocks."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Iterable

from tests.lab.truth import Mapping, Truth

__all__ = ("OLD", "expect_blocks", "in_blocks", "page_set", "taken")

#: Without the series of commits d76f99548cf0 ("mm/vmalloc.c: add used_map into vmap_block
#: to track space of vmap_block") (in v6.3) and 06c8994626d1 ("mm/vmalloc.c: allow vread()
#: to read out vm_map_ram areas") (in v6.3).
OLD = {"5.10", "5.10-rhel8", "6.1", "6.1-plain", "6.1-up", "6.1-kasan", "6.1-lto"}


def in_blocks(truth: Truth) -> list[Mapping]:
    return [mapping for mapping in truth.mappings if mapping.area == "block"]


def taken(mapping: Mapping) -> int:
    """Return the pages that the kernel takes out of a block for a mapping."""
    return 1 << (mapping.pages - 1).bit_length()


def page_set(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {page for first, end in ranges for page in range(first, end)}


def expect_blocks(
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
        expect_block(document, block, mappings, truth, kernel, translated)
    expect_sums(document, in_blocks(truth), len(made), translated)


def expect_block(
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
    if kernel in OLD:
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


def expect_sums(
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
