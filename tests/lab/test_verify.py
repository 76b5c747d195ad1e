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

import pytest
from drgn import Object, sizeof
from drgn.helpers.linux.mm import for_each_vmap_area

from drgn_vmap.commands import run
from drgn_vmap.helpers import for_each_vmap_block
from tests.expect.blocks import OLD
from tests.expect.verify import (
    ELSEWHERE,
    WITH,
    WITHOUT,
    expect_verified_live,
    verdicts,
)
from tests.running import drgn, target_of

from .damage import DamagedVmcore
from .guest import Guest
from .marks import on_all_kernels
from .vmcore import Vmcore

pytestmark = on_all_kernels


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


def test_live(module_guest: Guest) -> None:
    """Each patch; with the series, reading shows that blocks are read wrongly."""
    expect_verified_live(module_guest, module_guest.kernel.name)
