# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap top` against sums that this file adds up from the guest's /proc/vmallocinfo;
the fixture module makes the leak to find.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from .guest import Guest

PAGE = 4096
LEAKED = 30
LINE = re.compile(r"0x\w+-0x\w+ +(\d+) (\S+\+0x\S+(?: \[\w+\])?|vm_map_ram)(.*)")

Sums = dict[str, tuple[int, int, int]]


def run_top(guest: Guest, *options: str) -> tuple[Any, tuple[bytes, ...]]:
    """Return the JSON of ``top``, and the lists that the kernel printed meanwhile."""
    command = " ".join(("drgn -q -c /proc/kcore scripts/vmap_top.py --json", *options))
    done = guest.run(command, timeout=300, sample="/proc/vmallocinfo")
    assert (done.status, done.stderr) == (0, b"")
    return json.loads(done.stdout), done.samples


def sums_of_file(text: bytes) -> Sums:
    """Add areas, bytes and pages up by caller, from /proc/vmallocinfo alone."""
    areas, size, pages = Counter[str](), Counter[str](), Counter[str]()
    for line in text.decode().splitlines():
        found = LINE.fullmatch(line)
        if found:
            areas[found[2]] += 1
            size[found[2]] += int(found[1])
            counted = re.search(r" pages=(\d+)", found[3])
            pages[found[2]] += int(counted[1]) if counted else 0
    return {caller: (areas[caller], size[caller], pages[caller]) for caller in areas}


def sums_of_top(document: Any) -> Sums:
    """Return the rows; the kernel's file has one name for all of vm_map_ram()."""
    areas, size, pages = Counter[str](), Counter[str](), Counter[str]()
    for row in document["rows"]:
        key = row["key"].replace("vmap_block", "vm_map_ram")
        areas[key] += row["areas"]
        size[key] += row["bytes"]
        pages[key] += row["pages"]
    return {key: (areas[key], size[key], pages[key]) for key in areas}


def test_by_caller(module_guest: Guest) -> None:
    """Each caller whose sum stayed the same meanwhile has that sum, and the leak."""
    module_guest.write("/proc/vmap_lab", f"leak {LEAKED}\n".encode())
    document, samples = run_top(module_guest)
    module_guest.write("/proc/vmap_lab", b"leak 0\n")
    files, found = [sums_of_file(text) for text in samples], sums_of_top(document)
    stable = {
        caller: sums
        for caller, sums in files[0].items()
        if all(other.get(caller) == sums for other in files)
    }
    assert len(stable) > 20
    assert {caller: found.get(caller) for caller in stable} == stable
    leak = [sums for caller, sums in found.items() if "vmap_lab_leak" in caller]
    assert leak == [(LEAKED, LEAKED * 2 * PAGE, LEAKED)]
