# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Outcomes
--------

What a single consistency check returns, before it is judged.
"""

from dataclasses import dataclass
from typing import Callable, Iterable, List, Union

from .._numpy import Array, U64Array, np
from ..model.inspection import Failure, Inspection

__all__ = ("CheckFunction", "Looked", "Outcome", "Skip", "failures_at")


@dataclass(frozen=True)
class Looked:
    """A check that could be made."""

    checked: int
    failures: List[Failure]


@dataclass(frozen=True)
class Skip:
    """A check that says nothing on this kernel."""

    reason: str


Outcome = Union[Looked, Skip]
CheckFunction = Callable[[Inspection], Outcome]


def failures_at(
    addresses: U64Array,
    wrong: Array,
    text: Callable[[int], str],
    window: str = "",
) -> Iterable[Failure]:
    """
    Yield a failure for each row that is wrong.

    :param text: Gives the text for a row.
    :param window: While what this is legal.
    """
    for row in np.flatnonzero(wrong).tolist():
        yield Failure(int(addresses[row]), text(row), window)
