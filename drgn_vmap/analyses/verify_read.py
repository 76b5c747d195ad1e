# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The series, by reading
----------------------

What /proc/kcore really returned on the running kernel for memory that vm_map_ram()
mapped, held against what the code lets expect. Reading has the last word.
"""

from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..model.kcore import CheckedArea, PageClass, PageFinding
from ..model.series import Finding, PatchVerdict, SeriesSigns, Strength
from .answer import Answer

__all__ = ("FINDING", "judge_blocks", "judge_reading", "unmeasured_blocks")

FINDING = "vmap-block-reader"


class _Sum(NamedTuple):
    """What was read of areas of one kind."""

    areas: int
    right: int
    """Pages that came back as memory holds them, and hold something."""
    none: int
    """Pages that hold something and came back as zeros or as what was read before."""
    foreign: int
    """Pages that came back as other bytes."""
    unmapped: int
    """Pages without memory that came back as bytes."""


def judge_reading(
    reader: Answer, flags: Answer, areas: Sequence[CheckedArea]
) -> Answer:
    """Correct what is said of patch 3 by what was read."""
    own, blocks = _sum(areas, "vm_map_ram"), _sum(areas, "vmap_block")
    evidence = [*_said(own, "vm_map_ram areas"), *_said(blocks, "vmap_blocks")]
    found = own.right + own.foreign + blocks.right + blocks.foreign
    lost = own.none + blocks.none
    verdict, strength = reader.verdict, reader.strength
    if not found + lost:
        evidence = ["no page of vm_map_ram() was there to read through /proc/kcore"]
    elif found and not reader.is_yes:
        verdict, strength = PatchVerdict.YES, Strength.STRONG
        evidence.append("so there is a reader, by whatever name")
    elif not found and reader.is_yes and flags.is_yes:
        verdict, strength = PatchVerdict.NO, Strength.STRONG
        evidence.append("so whatever is there does not read them")
    return Answer(verdict, strength, (*reader.evidence, *evidence))


def judge_blocks(
    areas: Sequence[CheckedArea], page_size: int
) -> Tuple[Optional[Finding], str, str]:
    """
    Tell whether reading a page of a block returns that page.

    :return: What was found, why it could not be told, and a line on either.
    """
    areas = [area for area in areas if "vmap_block" in area.kinds]
    found = _sum(areas, "vmap_block")
    if not areas:
        return _not_known("there is no vmap_block")
    proof = _proof(areas)
    if proof is None:
        if found.right > found.areas:
            line = f"no page of {len(areas)} blocks came back as another one"
            return None, "", f"{line} (finding {FINDING})"
        return _not_known("no block has two pages to tell one by the other")
    text = (
        f"of vmap_blocks, /proc/kcore returned {found.foreign} pages as other bytes, "
        f"{found.right} as memory holds them, and bytes for {found.unmapped} pages that "
        f"have no memory. {_proof_text(*proof, page_size)}"
    )
    line = f"but it returns the wrong page of blocks (finding {FINDING})"
    return Finding(FINDING, text), "", line


def unmeasured_blocks(signs: SeriesSigns, why: str) -> Finding:
    """Return what the code lets expect of blocks where none could be read."""
    text = (
        f"it could not be measured: {why}. "
        f"By its code, {signs.ram_reader or 'the reader'}() returns the wrong page of "
        "blocks: in each kernel known that has it, it begins to copy at the first used "
        "page of a block, so what is asked for behind that comes back as that page. "
        "Run verify on the running kernel to see."
    )
    return Finding(FINDING, text, PatchVerdict.UNKNOWN)


def _sum(areas: Sequence[CheckedArea], kind: str) -> _Sum:
    areas = [area for area in areas if kind in area.kinds]

    def pages(page_class: PageClass) -> int:
        return sum(area.pages.get(page_class, 0) for area in areas)

    return _Sum(
        areas=len(areas),
        right=pages(PageClass.EQUAL) - sum(area.blank for area in areas),
        none=sum(area.lost for area in areas),
        foreign=pages(PageClass.WRONG),
        unmapped=pages(PageClass.UNMAPPED_WRONG),
    )


def _said(found: _Sum, what: str) -> Iterator[str]:
    parts = [
        f"{pages} pages {how}"
        for pages, how in (
            (found.right, "as memory holds them"),
            (found.foreign, "as other bytes"),
            (found.none, "as zeros or as what it had read before"),
        )
        if pages
    ]
    if parts:
        yield f"of {found.areas} {what}, /proc/kcore returned {', '.join(parts)}"


def _proof(areas: Sequence[CheckedArea]) -> Optional[Tuple[CheckedArea, PageFinding]]:
    """Return the page that shows best that another one was returned."""
    found: List[Tuple[CheckedArea, PageFinding]] = [
        (area, one)
        for area in areas
        for one in area.findings
        if one.page_class == PageClass.WRONG
        or (one.page_class == PageClass.UNMAPPED_WRONG and one.same_as_page is not None)
    ]

    def weakness(pair: Tuple[CheckedArea, PageFinding]) -> Tuple[bool, int]:
        return pair[1].same_as_page is None, pair[1].page_class

    return min(found, key=weakness, default=None)


def _proof_text(area: CheckedArea, found: PageFinding, page_size: int) -> str:
    there = found.page_class == PageClass.WRONG
    source = "bytes that no page of the block holds"
    if found.same_as_page is not None:
        first = area.start + found.same_as_page * page_size
        source = f"the bytes of page {found.same_as_page}, {first:#x}"
    return (
        f"proof: page {found.page} of the block at {area.start:#x}, "
        f"{area.start + found.page * page_size:#x}, "
        f"{'holds other bytes' if there else 'has no memory'}, and came back as {source}."
    )


def _not_known(why: str) -> Tuple[None, str, str]:
    line = "whether a page of a block is the right one is not known"
    return None, why, f"{line}: {why} (finding {FINDING})"
