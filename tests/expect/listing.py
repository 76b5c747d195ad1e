# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that compares what `ls` prints with what its own kernel does."""

from __future__ import annotations

import json

from tests.lab.guest import Guest
from tests.running import LIVE

__all__ = ("expect_listing_in",)

_RESTRICTS = ("0", "1", "2")
"""Values of kptr_restrict: addresses are hashed, real, or none."""


def expect_listing_in(guest: Guest, drgn: str = LIVE, hashed: bool = True) -> None:
    """
    Let a guest compare, for each value of kptr_restrict, within one process.

    :param hashed: Whether it has what hashes addresses.
    """
    restricts = _RESTRICTS if hashed else _RESTRICTS[1:]
    command = f"{drgn} tests/lab/inside/compare_ls.py {' '.join(restricts)}"
    result = guest.run(command, timeout=600)
    assert result.status == 0, result.stderr.decode()
    found = json.loads(result.stdout)
    assert found["lines"] > 50
    for restrict in restricts:
        assert found[restrict] == [], f"kptr_restrict={restrict}: {found[restrict]}"
