# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `verify` has to say of kernels whose history is known, with the fixture module."""

from __future__ import annotations

import json
import re
from typing import Any, Sequence

from tests.lab.guest import Guest
from tests.lab.truth import Truth
from tests.running import LIVE

from .blocks import OLD
from .check import FIXED
from .places import PAGE

__all__ = ("ELSEWHERE", "WITH", "WITHOUT", "expect_verified_live", "verdicts")

TRUTH = "/proc/vmap_lab"
#: Pages of the module's vm_map_ram() mappings that have an area of their own.
OWN_PAGES = 65 + 100 + 300
#: What debug info and memory tell of patches 1 to 3, and the architecture of 6 and 7.
WITHOUT, WITH = ["no"] * 3, ["yes"] * 3
ELSEWHERE = ["not-applicable"] * 2


def verdicts(found: dict[str, Any]) -> list[str]:
    """Return the verdict of each patch, in order."""
    assert [patch["number"] for patch in found["patches"]] == list(range(1, 8))
    return [patch["verdict"] for patch in found["patches"]]


def expect_verified_live(
    guest: Guest, kernel: str, drgn: str = LIVE, elsewhere: Sequence[str] = ELSEWHERE
) -> None:
    """
    Each patch; with the series, reading shows that blocks are read wrongly.

    :param elsewhere: What is to be said of those of other architectures than x86-64.
    """
    command = f"{drgn} scripts/vmap_verify.py --json"
    done = guest.run(command, timeout=300)
    assert done.stderr == b""
    found, old, fixed = json.loads(done.stdout), kernel in OLD, kernel in FIXED
    expected = [*WITHOUT, "no", "no"] if old else [*WITH, "yes", "yes"]
    assert verdicts(found) == [*expected, *elsewhere]
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
        truth = Truth.parse(guest.read(TRUTH).decode())
        expect_proof(findings[0]["text"], truth)


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
