# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap verify` of real kernels, live and from their vmcores. Which kernel has the
series is known from its history; what a wrong page held, from the fixture module.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from typing import Any

import pytest
from drgn import Object, sizeof
from drgn.helpers.linux.mm import for_each_vmap_area

from drgn_vmap.commands import run
from drgn_vmap.helpers import for_each_vmap_block
from tests.expect.places import PAGE
from tests.running import drgn, target_of

from .damage import DamagedVmcore
from .guest import Guest
from .marks import on_all_kernels
from .truth import Truth
from .vmcore import Vmcore

pytestmark = on_all_kernels

TRUTH = "/proc/vmap_lab"
#: Pages of the module's vm_map_ram() mappings that have an area of their own.
OWN_PAGES = 65 + 100 + 300
#: What debug info and memory tell of patches 1 to 3, and the architecture of 6 and 7.
WITHOUT, WITH = ["no"] * 3, ["yes"] * 3
ELSEWHERE = ["not-applicable"] * 2
#: Kernels of the lab that lack the series; later and patched ones have it.
OLD = ("5.10", "5.10-rhel8", "6.1", "6.1-plain")
#: The one kernel whose reader of blocks is mended.
FIXED = "6.1-fixed"


def verdicts(found: dict[str, Any]) -> list[str]:
    """Return the verdict of each patch, in order."""
    assert [patch["number"] for patch in found["patches"]] == list(range(1, 8))
    return [patch["verdict"] for patch in found["patches"]]


def test_vmcore(vmcore: Vmcore) -> None:
    """Each patch that memory can show, and unknown where it cannot."""
    done = drgn(*target_of(vmcore), "scripts/vmap_verify.py", "--json")
    assert done.stderr == ""
    found, old = json.loads(done.stdout), vmcore.kernel.name in OLD
    assert verdicts(found) == [
        *(WITHOUT if old else WITH),
        *["unknown"] * 2,
        *ELSEWHERE,
    ]
    assert found["verdict"] == ("not-fixed" if old else "fixed")
    assert found["problems"] == []
    # Nor can it show that the fixed one is, so that one is not told from the others.
    assert [(one["id"], one["verdict"]) for one in found["findings"]] == [
        ("vmap-block-reader", "unknown")
    ] * (not old)
    assert done.returncode == 1


def words_of(member: Object) -> list[int]:
    """Return the addresses of the words that a member has."""
    assert member.address_ is not None
    return list(range(member.address_, member.address_ + sizeof(member), 8))


@pytest.mark.kernels("6.12", "7.3", "6.1-series", "6.1-fixed")
def test_mixtures(vmcores: dict[str, Vmcore]) -> None:
    """The series half at work: what no area and no block makes use of does not count."""
    vmcore = vmcores["elf"]
    damaged = DamagedVmcore(vmcore.path, vmcore.kernel.vmlinux)
    prog = damaged.prog
    flags = [a.flags for a in for_each_vmap_area(prog) if not a.vm]
    used_maps = [block.used_map for block in for_each_vmap_block(prog)]
    assert len(flags) > len(used_maps) > 1
    for members, expected in ((flags, "yes no yes"), (used_maps, "no yes yes")):
        words = [word for member in members for word in words_of(member)]
        out = io.StringIO()
        with damaged.changed(dict.fromkeys(words, 0)):
            with contextlib.redirect_stdout(out):
                assert run("verify", prog, ["--json"]) == 1
        found = json.loads(out.getvalue())
        assert found["verdict"] == "partial"
        assert verdicts(found)[:3] == expected.split()


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
