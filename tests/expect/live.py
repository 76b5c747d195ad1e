# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What verbs have to say of the kernel of a guest that runs, in which nothing happens."""

from __future__ import annotations

import json

from tests.lab.guest import Guest
from tests.lab.truth import Truth
from tests.running import LIVE

from .blocks import expect_blocks
from .fsck import expect_all_ok

__all__ = ("expect_all_ok_in", "expect_blocks_in")

LAB = "/proc/vmap_lab"


def expect_all_ok_in(guest: Guest, kernel: str, drgn: str = LIVE) -> None:
    """Nothing is wrong."""
    done = guest.run(f"{drgn} scripts/vmap_fsck.py --json", timeout=600)
    assert (done.status, done.stderr) == (0, b"")
    expect_all_ok(json.loads(done.stdout)["checks"], kernel)


def expect_blocks_in(guest: Guest, kernel: str, drgn: str = LIVE) -> None:
    """Every mapping is where the module made it; a reset leaves nothing of those before."""
    guest.write(LAB, b"reset")
    done = guest.run(f"{drgn} scripts/vmap_blocks.py --json", timeout=300)
    assert (done.status, done.stderr) == (0, b"")
    document = json.loads(done.stdout)
    assert document["problems"] == []
    expect_blocks(document, Truth.parse(guest.read(LAB).decode()), kernel)
