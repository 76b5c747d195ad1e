# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
``vmap check`` against the fixture module, whose pages say whose they are: what class a
page is of follows from what /proc/kcore, read by drgn, returned for it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.expect.blocks import OLD
from tests.expect.check import (
    BAD,
    FIXED,
    ONE_CPU,
    RAM,
    checked_pages,
    expect_every_page,
    expect_per_cpu_chunks,
    expect_topmost_guard_page,
    expect_verdict,
    pages_of,
)

from .guest import Guest
from .kernels import KERNELS
from .marks import on_all_kernels, slow
from .stress import RUNS, runs_under_stress
from .truth import Truth

pytestmark = on_all_kernels


@pytest.fixture(scope="module")
def found(module_guest: Guest) -> tuple[Any, Truth]:
    """What all pages are said to be, and what they are."""
    return checked_pages(module_guest)


def test_every_page(found: tuple[Any, Truth]) -> None:
    """Each page of each mapping, and of the blocks around them, has its class."""
    expect_every_page(*found)


def test_verdict(found: tuple[Any, Truth], module_guest: Guest) -> None:
    """What this kernel is known to return."""
    expect_verdict(found[0], module_guest.kernel.name)


def test_topmost_guard_page(found: tuple[Any, Truth], module_guest: Guest) -> None:
    """Where no area follows, it is what was read before, on old kernels; no other page."""
    expect_topmost_guard_page(found[0], module_guest.kernel.name)


def test_per_cpu_chunks(found: tuple[Any, Truth], module_guest: Guest) -> None:
    """The last page of each is left out by design; the others are as memory has them."""
    expect_per_cpu_chunks(found[0], module_guest.kernel.name not in ONE_CPU)


def test_sample(module_guest: Guest) -> None:
    """By default all pages of vm_map_ram() are read, of other areas some; exit 0 or 1."""
    command = "drgn -q -c /proc/kcore scripts/vmap_check.py --json"
    done = module_guest.run(command, timeout=300)
    document = json.loads(done.stdout)
    for area in document["areas"]:
        pages = sum(area["pages"].values())
        whole = len(pages_of(area))
        if RAM & set(area["kinds"]):
            assert pages == whole
        else:
            assert 0 < pages <= min(16, whole)
    fixed = module_guest.kernel.name in FIXED
    assert (done.status, done.stderr) == (0 if fixed else 1, b"")


@slow
@pytest.mark.kernels(*KERNELS)
def test_under_stress(module_guest: Guest) -> None:
    """What comes and goes meanwhile is never taken for wrong; what stays has its class."""
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    stay = {hex(m.address): m for m in truth.mappings if m.live and m.area == "own"}
    try:
        runs = runs_under_stress(module_guest, "check --json")
    finally:
        # Else blocks with nothing in them would stay behind.
        module_guest.write("/proc/vmap_lab", b"reset")
    kernel, known, told = module_guest.kernel.name, 0, set()
    for status, out, err in runs:
        document = json.loads(out)
        # A run may find that all that could be wrong was changing just then.
        bad = any(BAD & set(area["pages"]) for area in document["areas"])
        assert (status, err) == (int(bad), "")
        told.add(bad)
        for area in document["areas"]:
            assert_no_false_alarm(area, kernel)
            if area["start"] in stay and "ioremap" not in area["kinds"]:
                known += 1
                lost = kernel in OLD and "vm_map_ram" in area["kinds"]
                assert set(area["pages"]) == {"zero" if lost else "equal"}, area
        assert {problem["what"] for problem in document["problems"]} <= {"racing"}
    assert known > 10 * RUNS
    assert (True in told) == (kernel not in FIXED)


def assert_no_false_alarm(area: Any, kernel: str) -> None:
    """Only what this kernel is known to do wrong is told, and proven."""
    ram = RAM & set(area["kinds"])
    for example in area["examples"]:
        if example["class"] not in BAD:
            continue
        if kernel in OLD:
            assert ram and example["class"] in ("zero", "stale"), (area, example)
        else:
            assert kernel not in FIXED and "vmap_block" in ram, (area, example)
            assert example["class"] in ("wrong", "unmapped-wrong"), (area, example)
            assert example["same_as_page"] < example["page"], (area, example)
