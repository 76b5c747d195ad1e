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
from typing import Any, Callable

import pytest

from tests.running import LIVE, on_vmcore

from .guest import Guest
from .vmcore import Vmcore

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


def module_of(line: str) -> str:
    """Return what a line is summed up under by module."""
    named = re.search(r"\+0x\S+ \[(\w+)\]", line)
    known = re.search(r"\+0x", line)
    bare = re.search(r" (0x[0-9a-f]{16}) ", line)
    other = bare[1] if bare else "vm_map_ram"
    return named[1] if named else "(kernel)" if known else other


def kind_of(line: str) -> str:
    """Return the labels of a line, in the order that the kernel prints them in."""
    labels = "ioremap|sparse|vmalloc|vmap|user|dma-coherent|vm_map_ram"
    return " ".join(re.findall(rf"(?<= )({labels})(?= |$)", line))


@pytest.mark.parametrize("by, key_of", [("module", module_of), ("kind", kind_of)])
def test_by_other_keys(
    vmcores: dict[str, Vmcore], by: str, key_of: Callable[[str], str]
) -> None:
    """Areas, bytes and pages by module and kind, from the file of that moment."""
    vmcore = vmcores["elf"]
    wanted: dict[str, list[int]] = {}
    for line in vmcore.vmallocinfo.decode().splitlines():
        if not line.endswith("unpurged vm_area"):
            pages = re.search(r" pages=(\d+)", line)
            one = (1, int(line.split()[1]), int(pages[1]) if pages else 0)
            sums = wanted.setdefault(key_of(line), [0, 0, 0])
            wanted[key_of(line)] = [a + b for a, b in zip(sums, one)]
    found = sums_of_top(on_vmcore(vmcore, "top", "--by", by))
    named = {(key or "(none)"): tuple(sums) for key, sums in wanted.items()}
    assert len(named) >= 4
    assert {key: found.get(key) for key in named} == named
    assert len(found) == len(named)


def test_by_node(vmcores: dict[str, Vmcore]) -> None:
    """Pages by NUMA node are the N counts of the file, and bytes go with them."""
    vmcore = vmcores["elf"]
    wanted = Counter[str]()
    for node, pages in re.findall(r" N(\d+)=(\d+)", vmcore.vmallocinfo.decode()):
        wanted[node] += int(pages)
    rows = on_vmcore(vmcore, "top", "--by", "node")["rows"]
    found = {row["key"]: row["pages"] for row in rows if row["pages"]}
    assert found == dict(wanted) and len(wanted) == 2
    for row in rows:
        assert row["bytes"] == row["pages"] * PAGE or not row["pages"]


def test_the_kernels_counter(vmcores: dict[str, Vmcore]) -> None:
    """What is reconciled is what the kernel says, and 6.12 and 7.3 agree with it."""
    vmcore = vmcores["elf"]
    found = on_vmcore(vmcore, "top")["reconciliation"]
    if vmcore.kernel.name in ("6.12", "7.3"):
        assert found["verdict"] == "equal" and found["difference_pages"] == 0
    text = vmcore.vmallocinfo.decode()
    lines = [line for line in text.splitlines() if " vmalloc" in line]
    counted = sum(int(n) for line in lines for n in re.findall(r" pages=(\d+)", line))
    assert found["summed_pages"] == counted


@pytest.mark.kernels("6.12")
def test_watch(module_guest: Guest) -> None:
    """What grows on a running kernel is shown again and again, until Ctrl-C."""
    watch = f"{LIVE} scripts/vmap_top.py --watch 1"
    watching = module_guest.start(watch, "/tmp/watched")
    try:
        module_guest.wait_until_said("/tmp/watched", b"nothing changed")
        module_guest.write("/proc/vmap_lab", f"leak {LEAKED}\n".encode())
        module_guest.wait_until_said("/tmp/watched", b"leak")
    finally:
        module_guest.write("/proc/vmap_lab", b"leak 0\n")
        module_guest.interrupt(watching)
    text = module_guest.wait_until_said("/tmp/watched", b"exit 130").decode()
    assert re.search(rf"\+{LEAKED} +\+\d+ +\+\d+  \S*leak", text), text
    assert "Traceback" not in text and "s of CPU" in text
