# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Compare memory with what the fixture module says it holds; drgn runs this in a guest.

drgn reads physical memory and walks the page table, so neither the module nor
drgn_vmap judges itself. Prints JSON: how many pages were checked, and what differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Iterator

from drgn import FaultError, Program
from drgn.helpers.linux.mm import follow_phys

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.lab.truth import Mapping, Truth, page_bytes


def translate(prog: Program, address: int) -> int | None:
    try:
        return int(follow_phys(prog["init_mm"].address_of_(), address))
    except FaultError:
        return None


def differences(prog: Program, mapping: Mapping, page_size: int) -> Iterator[str]:
    """Yield what is wrong with each page of a mapping, live or freed."""
    for page, pfn in enumerate(mapping.pfns):
        if mapping.live:
            mapped = translate(prog, mapping.address + page * page_size)
            if mapped != pfn * page_size:
                yield f"page {page}: frame {pfn}, page table says {mapped}"
        if mapping.fill:
            held = prog.read(pfn * page_size, page_size, physical=True)
            if held != page_bytes(mapping.fill, page, page_size):
                yield f"page {page}: holds {held[:16].hex()}"


prog = globals()["prog"]
truth = Truth.parse(Path("/proc/vmap_lab").read_text())
mappings = list(truth.mappings)
for mapping_set in truth.sets.values():
    if mapping_set.name != "base":
        text = Path("/proc", mapping_set.file).read_text()
        mappings += Truth.parse_mappings(text)
wrong = [
    f"{mapping.kind} {mapping.id} {difference}"
    for mapping in mappings
    for difference in differences(prog, mapping, truth.page_size)
]
print(json.dumps({"pages": sum(mapping.pages for mapping in mappings), "wrong": wrong}))
