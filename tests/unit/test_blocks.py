# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is concluded about blocks, and how it looks, from records made by hand."""

from __future__ import annotations

import json

import pytest

from drgn_vmap._numpy import np
from drgn_vmap.analyses.blocks import (
    block_totals,
    blocks_by_cpu,
    describe_blocks,
    page_states,
    select_blocks,
)
from drgn_vmap.model.blocks import Blocks, PageState
from drgn_vmap.render.blocks import block_map, block_table, blocks_json, summary_text
from tests.fakes.blocks import BITS, START, FakeBlock, blocks_of

SIZE = BITS * 4096


def three_blocks(has_used_map: bool = True) -> Blocks:
    """One with everything, one that only a purge would free, one full."""
    return blocks_of(
        [
            # 3 pages asked for and 4 given; 2 freed, 8 used, the rest free.
            FakeBlock(used="####..########", mapped="###...########", free=114),
            FakeBlock(free=100, dirty=28, list_cpu=1),
            FakeBlock(used="#" * BITS, mapped="#" * BITS, free=0, list_cpu=None),
        ],
        has_used_map,
    )


def test_description() -> None:
    """Each block is described by its own columns."""
    blocks = three_blocks()
    first, second, third = describe_blocks(blocks, select_blocks(blocks))
    assert (first.start, first.end) == (START, START + SIZE)
    assert first.used_pages == 12
    assert first.used_ranges == ((0, 4), (6, 14))
    assert first.mapped_ranges == ((0, 3), (6, 14))
    assert (first.free_pages, first.dirty_pages, first.stranded_pages) == (114, 2, 2)
    assert (first.on_free_list_of_cpu, first.purgeable) == (0, False)
    assert (second.used_ranges, second.purgeable) == ((), True)
    assert second.on_free_list_of_cpu == 1
    assert third.used_ranges == ((0, BITS),)
    assert (third.on_free_list_of_cpu, third.purgeable) == (None, False)


def test_dead_block_is_not_purgeable() -> None:
    """A block that is all dirty is on its way out already."""
    blocks = blocks_of([FakeBlock(free=0, dirty=BITS)])
    [block] = describe_blocks(blocks, select_blocks(blocks))
    assert not block.purgeable


def test_totals() -> None:
    """Sums over all blocks, and over each CPU's list."""
    blocks = three_blocks()
    totals = block_totals(blocks)
    assert (totals.blocks, totals.pages) == (3, 3 * BITS)
    assert totals.used_pages == 12 + BITS
    assert totals.mapped_pages == 11 + BITS
    assert (totals.free_pages, totals.stranded_pages) == (214, 30)
    assert totals.purgeable == 1
    first, second = blocks_by_cpu(blocks)
    assert (first.cpu, first.blocks, first.free_pages) == (0, 1, 114)
    assert (second.cpu, second.blocks, second.free_pages) == (1, 1, 100)


@pytest.mark.parametrize(
    "address, rows", [(START - 1, []), (START, [0]), (START + SIZE, [1]), (0, [])]
)
def test_select_by_address(address: int, rows: list[int]) -> None:
    """The block around an address, its end excluded."""
    assert select_blocks(three_blocks(), address=address).tolist() == rows


def test_select_by_cpu() -> None:
    """The blocks on a CPU's list; a full block is on none."""
    assert select_blocks(three_blocks(), cpu=0).tolist() == [0]
    assert select_blocks(three_blocks(), cpu=7).tolist() == []


def test_page_states() -> None:
    """Used, freed and free pages, and those mapped although nobody uses them."""
    blocks = blocks_of([FakeBlock(used="##..", mapped="#.#.....#", free=BITS - 4)])
    [states] = page_states(blocks, np.array([0]))
    used, freed, free, mapped = (
        PageState.USED,
        PageState.FREED,
        PageState.FREE,
        PageState.MAPPED,
    )
    assert states[:10].tolist() == [
        *(used, used, mapped, freed, free, free, free, free, mapped, free)
    ]


def test_page_states_without_used_map() -> None:
    """Where there is no bitmap, a page is in use if it is mapped."""
    blocks = blocks_of([FakeBlock(mapped="#.#", free=BITS - 4)], has_used_map=False)
    [states] = page_states(blocks, np.array([0]))
    assert states[:5].tolist() == [
        PageState.USED,
        PageState.FREED,
        PageState.USED,
        PageState.FREED,
        PageState.FREE,
    ]


def test_page_states_without_anything() -> None:
    """Where the page table is not known either, what was handed out is not."""
    blocks = blocks_of([FakeBlock(free=BITS - 2, mapped_known=False)], False)
    rows = np.array([0])
    states = page_states(blocks, rows)
    assert states[0][:3].tolist() == [
        PageState.UNKNOWN,
        PageState.UNKNOWN,
        PageState.FREE,
    ]
    legend, _, _, line, *_ = block_map(describe_blocks(blocks, rows), states).split(
        "\n"
    )
    assert legend.endswith(", . free, ? used or freed")
    assert line == f"     0  ??{'.' * 62}"
    # With a bitmap, it is known all the same.
    blocks = blocks_of([FakeBlock(used="#", free=BITS - 2, mapped_known=False)])
    [states] = page_states(blocks, rows)
    assert states[:2].tolist() == [PageState.USED, PageState.FREED]


def test_map() -> None:
    """A drawing has 64 pages a line."""
    blocks = blocks_of([FakeBlock(used="##..", mapped="##.!", free=BITS - 4)])
    rows = select_blocks(blocks)
    text = block_map(describe_blocks(blocks, rows), page_states(blocks, rows))
    assert text == (
        "# used, ! mapped but unused, x freed, . free\n"
        "\n"
        f"{START:#x}-{START + SIZE:#x}\n"
        f"     0  ##x!{'.' * 60}\n"
        f"    64  {'.' * 64}\n"
    )


@pytest.mark.parametrize("width", [20, 60, 71, 72, 200])
def test_map_on_a_terminal(width: int) -> None:
    """A drawing fits, and has each page, the number of the first in each line."""
    blocks = blocks_of([FakeBlock(used="##..", mapped="##.!", free=BITS - 4)])
    rows = select_blocks(blocks)
    states = page_states(blocks, rows)
    text = block_map(describe_blocks(blocks, rows), states, width)
    lines = [line.split() for line in text.splitlines()[3:]]
    assert "".join(pages for _, pages in lines) == f"##x!{'.' * (BITS - 4)}"
    assert all(8 + len(pages) <= width for _, pages in lines)
    step = len(lines[0][1])
    assert [int(first) for first, _ in lines] == list(range(0, BITS, step))


def test_json_without_used_map() -> None:
    """What the kernel does not keep is absent, not zero."""
    blocks = three_blocks(has_used_map=False)
    shown = describe_blocks(blocks, select_blocks(blocks))
    body = blocks_json(blocks, shown, blocks_by_cpu(blocks), block_totals(blocks))
    json.dumps(body)
    assert (body["bits_per_block"], body["block_bytes"]) == (BITS, SIZE)
    assert "used_pages" not in body["totals"]
    for block in body["blocks"]:
        assert "used_pages" not in block and "used_ranges" not in block
    assert body["blocks"][0]["mapped_ranges"] == [[0, 3], [6, 14]]
    assert "on_free_list_of_cpu" not in body["blocks"][2]


def test_unknown_mapping_is_no_zero() -> None:
    """Where the page table is unreadable, nothing is said to be mapped or not."""
    blocks = blocks_of([FakeBlock(free=BITS, mapped_known=False)])
    [block] = describe_blocks(blocks, select_blocks(blocks))
    assert block.mapped_ranges is None
    assert "unreadable" in block_table([block], blocks_by_cpu(blocks))
    without = blocks_of([FakeBlock(free=BITS, mapped_known=False)], has_used_map=False)
    totals = block_totals(without)
    assert totals.mapped_pages is None
    assert "hold an unknown number of mapped pages" in summary_text(without, totals)


def test_summary() -> None:
    """A person reads what is held, what is stranded, and which kernel it is."""
    with_map, without = three_blocks(), three_blocks(has_used_map=False)
    text = summary_text(with_map, block_totals(with_map))
    assert text.startswith("3 blocks of 512.0 KiB hold 140 used pages; 30 pages")
    assert "page table" not in text
    text = summary_text(without, block_totals(without))
    assert text.startswith("3 blocks of 512.0 KiB hold 139 mapped pages; 30 pages")
    assert "keeps no bitmap" in text
    assert "no blocks" in summary_text(blocks_of([]), block_totals(blocks_of([])))
