# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Blocks
------

What is inside the blocks, as a table and a map for people, and as JSON.
"""

from typing import Any, Dict, Iterable, List, Optional, Sequence

from .._numpy import Array
from ..model.blocks import Block, Blocks, BlockTotals, CpuBlocks, PageRange, PageState
from .sizes import size_text
from .tables import plain_table

__all__ = ("block_json", "block_map", "block_table", "blocks_json", "summary_text")

_CHARACTERS = {
    PageState.FREE: ".",
    PageState.FREED: "x",
    PageState.USED: "#",
    PageState.MAPPED: "!",
    PageState.UNKNOWN: "?",
}
_LEGEND = "# used, ! mapped but unused, x freed, . free"
_PAGES_A_LINE = 64
_MARGIN = 8
"""What stands before them: the number of the first."""
_SPARE = ("XARRAY OF CPU", "VMAP_BLOCK", "LIST OF CPU", "PURGEABLE", "MAPPED", "USED")


def block_table(
    blocks: Iterable[Block], cpus: Sequence[CpuBlocks], width: Optional[int] = None
) -> str:
    """
    Return blocks as a table, and below it the list of each CPU as another.

    :param width: Of the terminal.
    """
    rows = [
        [
            f"{block.start:#x}",
            f"{block.vb:#x}",
            _number(block.used_pages),
            _mapped_pages(block),
            str(block.free_pages),
            str(block.stranded_pages),
            _number(block.on_free_list_of_cpu),
            _number(block.xarray_cpu),
            "yes" if block.purgeable else "no",
        ]
        for block in blocks
    ]
    headers = (
        "START",
        "VMAP_BLOCK",
        "USED",
        "MAPPED",
        "FREE",
        "STRANDED",
        "LIST OF CPU",
        "XARRAY OF CPU",
        "PURGEABLE",
    )
    lists = [[str(c.cpu), str(c.blocks), str(c.free_pages)] for c in cpus]
    return (
        f"{_table(rows, headers, 2, width) if rows else 'no block matches'}\n\n"
        f"{_table(lists, ('CPU', 'BLOCKS WITH FREE PAGES', 'FREE PAGES'), 0, width)}\n"
    )


def block_map(
    blocks: Iterable[Block], states: Array, width: Optional[int] = None
) -> str:
    """
    Draw each block, one character a page.

    :param width: Of the terminal.
    :param states: The :class:`~drgn_vmap.model.blocks.PageState` of each block's pages.
    """
    pages = _PAGES_A_LINE
    while width is not None and pages > 8 and _MARGIN + pages > width:
        pages //= 2
    unknown = ", ? used or freed" if (states == PageState.UNKNOWN).any() else ""
    drawn = [f"{_LEGEND}{unknown}\n"]
    for block, row in zip(blocks, states.tolist()):
        text = "".join(_CHARACTERS[PageState(state)] for state in row)
        lines = [
            f"{at:6}  {text[at : at + pages]}\n" for at in range(0, len(text), pages)
        ]
        drawn.append(f"\n{block.start:#x}-{block.end:#x}\n{''.join(lines)}")
    return "".join(drawn)


def summary_text(blocks: Blocks, totals: BlockTotals) -> str:
    """Return what a person may act on in a few lines."""
    if not totals.blocks:
        return "no blocks: nobody holds small mappings of vm_map_ram()\n"
    page = blocks.kernel.page_size
    block = size_text(blocks.bits_per_block * page)
    if totals.used_pages is None:
        count = totals.mapped_pages
        unknown = "an unknown number of mapped pages"
        held = unknown if count is None else f"{count} mapped pages"
        note = (
            "This kernel keeps no bitmap of used pages (used_map, since 6.3): "
            "MAPPED, from the page table, stands in for it.\n"
        )
    else:
        held, note = f"{totals.used_pages} used pages", ""
    return (
        f"{totals.blocks} blocks of {block} hold {held}; "
        f"{totals.stranded_pages} pages ({size_text(totals.stranded_pages * page)}) "
        "are stranded: freed, but not given out again before their block is empty; "
        f"a purge could give back {totals.purgeable} blocks\n{note}"
    )


def blocks_json(
    blocks: Blocks,
    shown: Iterable[Block],
    cpus: Sequence[CpuBlocks],
    totals: BlockTotals,
) -> Dict[str, Any]:
    """Return the body of the JSON document."""
    return {
        "bits_per_block": blocks.bits_per_block,
        "block_bytes": blocks.bits_per_block * blocks.kernel.page_size,
        "blocks": [block_json(block) for block in shown],
        "per_cpu": [
            {"cpu": c.cpu, "blocks": c.blocks, "free_pages": c.free_pages} for c in cpus
        ],
        "totals": _present(
            {
                "blocks": totals.blocks,
                "pages": totals.pages,
                "used_pages": totals.used_pages,
                "mapped_pages": totals.mapped_pages,
                "free_pages": totals.free_pages,
                "stranded_pages": totals.stranded_pages,
                "purgeable_blocks": totals.purgeable,
            }
        ),
    }


def block_json(block: Block) -> Dict[str, Any]:
    """Return a block as JSON has it: what does not apply is absent."""
    return _present(
        {
            "start": f"{block.start:#x}",
            "end": f"{block.end:#x}",
            "vb": f"{block.vb:#x}",
            "free_pages": block.free_pages,
            "dirty_pages": block.dirty_pages,
            "dirty_min": block.dirty_min,
            "dirty_max": block.dirty_max,
            "used_pages": block.used_pages,
            "used_ranges": _ranges(block.used_ranges),
            "mapped_ranges": _ranges(block.mapped_ranges),
            "on_free_list_of_cpu": block.on_free_list_of_cpu,
            "xarray_cpu": block.xarray_cpu,
            "stranded_pages": block.stranded_pages,
            "purgeable": block.purgeable,
        }
    )


def _present(values: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _ranges(ranges: Optional[Sequence[PageRange]]) -> Optional[List[List[int]]]:
    return None if ranges is None else [list(pages) for pages in ranges]


def _number(value: Optional[int]) -> str:
    return "-" if value is None else str(value)


def _mapped_pages(block: Block) -> str:
    if block.mapped_ranges is None:
        return "unreadable"
    return str(sum(end - first for first, end in block.mapped_ranges))


def _table(
    rows: List[List[str]], headers: Sequence[str], left: int, width: Optional[int]
) -> str:
    """Return a table whose first columns are aligned left, the others right."""
    align = ["left" if at < left else "right" for at in range(len(headers))]
    return plain_table(rows, headers, align, width, _SPARE)
