# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap verify` of real kernels, live and from their vmcores. Which kernel has the
series is known from its history; what a wrong page held, from the fixture module.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

from .conftest import Vmcore
from .guest import Guest
from .test_addr import PAGE, ROOT
from .truth import Truth

TRUTH = "/proc/vmap_lab"
#: Pages of the module's vm_map_ram() mappings that have an area of their own.
OWN_PAGES = 65 + 100 + 300
#: What debug info and memory tell of patches 1 to 3, and the architecture of 6 and 7.
WITHOUT, WITH = ["no"] * 3, ["yes"] * 3
ELSEWHERE = ["not-applicable"] * 2
#: Kernels of the lab that lack the series; later and patched ones have it.
OLD = ("5.10", "6.1", "6.1-plain")
#: The one kernel whose reader of blocks is mended.
FIXED = "6.1-fixed"


def verdicts(found: dict[str, Any]) -> list[str]:
    """Return the verdict of each patch, in order."""
    assert [patch["number"] for patch in found["patches"]] == list(range(1, 8))
    return [patch["verdict"] for patch in found["patches"]]


def test_vmcore(vmcore: Vmcore) -> None:
    """Each patch that memory can show, and unknown where it cannot."""
    command = [sys.executable, "-m", "drgn", "-q", "-c", str(vmcore.path)]
    command += ["-s", str(vmcore.kernel.vmlinux), "scripts/vmap_verify.py", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300)
    assert done.stderr == b""
    found, old = json.loads(done.stdout), vmcore.kernel.name in OLD
    assert verdicts(found) == [
        *(WITHOUT if old else WITH),
        *["unknown"] * 2,
        *ELSEWHERE,
    ]
    assert found["verdict"] == ("not-fixed" if old else "fixed")
    assert (found["findings"], found["problems"]) == ([], [])
    assert done.returncode == (1 if old else 0)


def page_at(truth: Truth, address: int) -> tuple[int | None, int]:
    """Return whose contents a page holds, and which of its pages it is."""
    [found] = [
        (mapping.fill, (address - mapping.address) // PAGE)
        for mapping in truth.mappings
        if mapping.live and 0 <= address - mapping.address < mapping.pages * PAGE
    ]
    return found


def expect_proof(text: str, truth: Truth) -> None:
    """The pages that the finding names are in one block, and hold different bytes."""
    proof = re.search(
        r"page (\d+) of the block at (0x\w+), (0x\w+), holds other bytes, "
        r"and came back as the bytes of page (\d+), (0x\w+)\.",
        text,
    )
    assert proof, text
    page, start, address, source_page, source = (
        int(word, 0) for word in proof.groups()
    )
    assert address == start + page * PAGE and source == start + source_page * PAGE
    assert page_at(truth, address) != page_at(truth, source)


def test_live(module_guest: Guest) -> None:
    """Each patch; with the series, reading shows that blocks are read wrongly."""
    command = "drgn -q -c /proc/kcore scripts/vmap_verify.py --json"
    done = module_guest.run(command, timeout=300)
    assert done.stderr == b""
    found, name = json.loads(done.stdout), module_guest.kernel.name
    old, fixed = name in OLD, name == FIXED
    expected = [*WITHOUT, "no", "no"] if old else [*WITH, "yes", "yes"]
    assert verdicts(found) == [*expected, *ELSEWHERE]
    assert found["verdict"] == ("not-fixed" if old else "fixed")
    assert done.status == (0 if fixed else 1)
    evidence = " ".join(found["patches"][2]["evidence"])
    assert (
        f"{OWN_PAGES} pages {'as zeros or' if old else 'as memory holds'}" in evidence
    )
    findings = found["findings"]
    assert [one["id"] for one in findings] == ["vmap-block-reader"] * (
        not old and not fixed
    )
    if findings:
        expect_proof(
            findings[0]["text"], Truth.parse(module_guest.read(TRUTH).decode())
        )
