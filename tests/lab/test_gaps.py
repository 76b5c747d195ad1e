# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap gaps` against the kernel itself: the fixture module tries an allocation of
each size that `--fit` was asked for.
"""

from __future__ import annotations

import json
from typing import Any

from .guest import Guest

PAGE = 4096
MIB, TIB = 1 << 20, 1 << 40
SPACE = 32 * TIB

SMALL = [(pages * PAGE, PAGE) for pages in (1, 2, 3, 7, 40, 300)]
ALIGNED = [(5 * PAGE, 8 * PAGE), (MIB, MIB), (3 * MIB, 4 * MIB)]


def fit_and_try(guest: Guest, pairs: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return for each size and alignment the answer and what the kernel did."""
    arguments = " ".join(f"{size}:{align}" for size, align in pairs)
    command = "drgn -q -c /proc/kcore tests/lab/inside/fit_and_try.py"
    done = guest.run(f"{command} {arguments}", timeout=300)
    assert done.status == 0, done.stderr.decode()
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == len(pairs)
    return found


def places(fit: dict[str, Any]) -> set[str]:
    """Return the addresses that an answer allows, which depend on the CPU."""
    return {fit["where"], *fit["pools"].values()}


def test_fit(module_guest: Guest) -> None:
    """What fits is where the answer said, to the page; the states fill the space."""
    for found in fit_and_try(module_guest, SMALL + ALIGNED):
        answer, tried = found["answer"], found["tried"]
        fit = answer["fit"]
        assert (fit["fits"], tried["result"]) == (True, "fits")
        assert tried["addr"] in places(fit), (fit, tried)
        states = ("busy", "lazy", "purging", "pool", "free", "unaccounted")
        assert sum(answer[state] for state in states) == answer["total"] == SPACE
        assert answer["largest_gap"] > 30 * TIB
