# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Show what an address is.

ADDR is a virtual address, with or without 0x; phys:ADDR, a physical one;
page:ADDR, that of a struct page; a range as ls prints it, of which the start is
taken; or a symbol, as NAME or NAME+OFFSET. What digits can spell is an address.

It tells which area it lies in, or which lazily freed, pooled or free range;
whose area that is; which page of it, and in a vmap_block whether that page is
used; the physical address; what /proc/kcore returns there on this kernel; and
the areas in use below and above. Outside of vmalloc space it tells what is
there: user space, the direct map, the struct pages, the kernel image, a module.
A physical address is shown once for each place where areas map it, and whether
RAM and a struct page are there.

  vmap addr ffffc90000004010
  vmap addr phys:0x12345000 page:ffffea0000048d40
  vmap addr --owners ffffc90000004010

One address takes a search in a tree, thousands take hardly longer. Physical
addresses take a walk over all areas, as the kernel keeps no way back.

Exit status: 0, or 1 if parts of a vmcore could not be read, or 2 if it cannot.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from ..analyses.addr import (
    are_in_areas,
    block_starts,
    find_places,
    virtual_addresses,
)
from ..kernel.memory.holes import why_no_page, why_no_ram
from ..kernel.vmalloc.area_pages import AreaPages
from ..kernel.vmalloc.blocks import take_blocks
from ..kernel.vmalloc.mappings import find_mappings, struct_page_phys
from ..kernel.vmalloc.owners import with_owners
from ..kernel.vmalloc.regions import find_regions
from ..kernel.vmalloc.snapshot import take_areas_around, take_snapshot
from ..kernel.vmalloc.vread import kcore_rules
from ..model.areas import Problem
from ..model.places import Spot
from ..render.addr import place_json, place_text
from ..render.records import document
from .common import add_json, problem_status, warn_of_problems, write_text
from .places import Place, find_place

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``addr``."""
    parser.add_argument(
        "addresses",
        metavar="ADDR",
        nargs="+",
        help="a virtual address, phys:ADDR or page:ADDR, in hexadecimal; START-END, of "
        "which START is taken; or NAME[+OFFSET], a symbol",
    )
    parser.add_argument(
        "--owners",
        action="store_true",
        help="also whose the area is, told by who points at it, as ls --owners does",
    )
    add_json(parser)


def run(target: "Target", args: argparse.Namespace) -> int:
    """Print what is at each address."""
    asked = [find_place(target, text) for text in args.addresses]
    spots, problems = _spots(target, asked)
    addresses = virtual_addresses(spots)
    snapshot = take_areas_around(target, addresses)
    if args.owners:
        snapshot = with_owners(target, snapshot)
    translation, by_vm_struct = AreaPages(target, snapshot).complete(
        addresses, target.page_table.translate(addresses)
    )
    starts = block_starts(snapshot, addresses)
    blocks = take_blocks(target, starts=starts) if len(starts) else None
    places = find_places(
        spots,
        snapshot,
        translation,
        by_vm_struct,
        blocks,
        kcore_rules(target),
        # They take longer to read than all else.
        () if are_in_areas(snapshot, addresses) else find_regions(target),
    )
    problems = (*problems, *snapshot.problems, *translation.problems)
    problems += blocks.problems if blocks else ()
    problems = tuple(dict.fromkeys(problems))
    if args.json:
        body = [place_json(place) for place in places]
        sys.stdout.write(document("addr", snapshot.kernel, problems, addresses=body))
    else:
        live = target.is_this_machine
        write_text("\n".join(place_text(place, live) for place in places))
        warn_of_problems("addr", problems)
    return problem_status(problems)


def _spots(
    target: "Target", asked: Sequence[Place]
) -> Tuple[List[Spot], Tuple[Problem, ...]]:
    """Find the virtual addresses of what was asked for."""
    phys = {
        place: (
            place.address
            if place.kind == "phys"
            else struct_page_phys(target, place.address)
        )
        for place in asked
        if place.kind
    }
    where: Dict[int, List[int]] = {}
    problems: Tuple[Problem, ...] = ()
    if phys:
        snapshot = take_snapshot(target)
        pairs, problems = find_mappings(target, snapshot, list(phys.values()))
        problems = (*snapshot.problems, *problems)
        for one, virtual in pairs:
            where.setdefault(one, []).append(virtual)
    spots = [
        (
            Spot(
                place.text,
                tuple(where.get(phys[place], ())),
                phys[place],
                _no_page(target, phys[place]),
            )
            if place.kind
            else Spot(place.text, (place.address,))
        )
        for place in asked
    ]
    return spots, problems


def _no_page(target: "Target", phys: int) -> str:
    """Return why there is no memory at a physical address; empty if there is."""
    why = why_no_page(target.values, phys // target.page_size)
    if why:
        return f"no RAM and no struct page is there: {why}"
    why = why_no_ram(target.values, target.memory, phys)
    return f"no RAM is there: {why}" if why else ""
