# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Racing
------

On a live kernel, damage is most likely a change under the reader's eyes: reading
is repeated a few times, and what is still odd is told as a race.
"""

from dataclasses import replace
from typing import Iterable, Tuple

from ...model.areas import Kernel, Problem, ProblemKind

__all__ = ("as_races", "tries")

_LIVE_TRIES = 4


def tries(kernel: Kernel) -> int:
    """Return how often to read until nothing is odd."""
    return _LIVE_TRIES if kernel.live else 1


def as_races(kernel: Kernel, problems: Iterable[Problem]) -> Tuple[Problem, ...]:
    """Return problems of a reader, worded as races if the kernel is live."""
    if not kernel.live:
        return tuple(problems)
    return tuple(
        replace(
            problem,
            what=ProblemKind.RACING,
            detail=f"{problem.detail} (the kernel may have changed it meanwhile)",
        )
        for problem in problems
    )
