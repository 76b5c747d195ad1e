# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that compares what `ls` prints with what its own kernel does."""

from __future__ import annotations

import json

from tests.lab.guest import Guest
from tests.running import LIVE

__all__ = ("HASHING_UNKNOWN", "expect_listing_in")


HASHING_UNKNOWN = {"5.10-rhel8"}
"""
Kernels as those before 5.4, of which BTF does not tell how they print addresses while
kptr_restrict is 0.
"""


def expect_listing_in(guest: Guest, drgn: str = LIVE) -> None:
    """Let a guest compare, for each value of kptr_restrict, within one process."""
    restricts = ["0", "1", "2"]
    if guest.kernel.name in HASHING_UNKNOWN and "--no-default-symbols" in drgn:
        restricts.remove("0")
    command = f"{drgn} tests/lab/inside/compare_ls.py {' '.join(restricts)}"
    result = guest.run(command, timeout=600)
    assert result.status == 0, result.stderr.decode()
    found = json.loads(result.stdout)
    assert found["lines"] > 50
    for restrict in restricts:
        assert found[restrict] == [], f"kptr_restrict={restrict}: {found[restrict]}"
