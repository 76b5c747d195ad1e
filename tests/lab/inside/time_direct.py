# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Time drgn's reads of vmap() areas, as it is and with direct reads; runs in a guest in which
the fixture module made aliases: drgn -c /proc/kcore tests/lab/inside/time_direct.py

Prints JSON: microseconds a read, the least of some rounds, by way of reading and by size
and order. Both ways take turns, each with a program of its own.
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Dict, List, Tuple

from drgn import Program

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap import use_direct_reads
from tests.lab.truth import Truth

PAGE = 4096
ROUNDS = 15
LOADED = 16 << 20
"""Of larger pieces malloc() does not learn."""


def microseconds(prog: Program, addresses: List[int], size: int) -> float:
    begin = time.perf_counter()
    for address in addresses:
        prog.read(address, size)
    return (time.perf_counter() - begin) / len(addresses) * 1e6


pages = [
    one.address + index * PAGE
    for one in Truth.parse_mappings(Path("/proc/vmap_lab_aliases").read_text())
    for index in range(one.pages)
]
anywhere = random.Random(1).sample(pages, 2000)
cases: Dict[str, Tuple[List[int], int]] = {
    "8 B in order": (pages[:2000], 8),
    "8 B at random": (anywhere, 8),
    "4 KiB in order": (pages[:2000], PAGE),
    "4 KiB at random": (anywhere, PAGE),
    "64 KiB in order": (pages[:3200:16], 64 << 10),
    "1 MiB in order": (pages[:8192:256][:-1], 1 << 20),
}
ways = {}
for way in ("plain", "direct", "off"):
    ways[way] = Program()
    ways[way].set_core_dump("/proc/kcore")
    if way != "plain":
        use_direct_reads(ways[way])
use_direct_reads(ways["off"], False)
# malloc() keeps at hand what was freed, in as large pieces as have been: as much as in a
# session that loaded debug information.
bytes(LOADED)
figures: Dict[str, Dict[str, float]] = {way: {} for way in ways}
for _ in range(ROUNDS):
    for name, (addresses, size) in cases.items():
        for way, prog in ways.items():
            took = microseconds(prog, addresses, size)
            figures[way][name] = min(took, figures[way].get(name, took))
sizes = {name: size for name, (_, size) in cases.items()}
print(json.dumps({"figures": figures, "sizes": sizes}))
