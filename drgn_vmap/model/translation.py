# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Translation
-----------

What a page table makes of addresses.
"""

from dataclasses import dataclass
from typing import Tuple

from .._numpy import Array, U64Array
from .areas import Problem

__all__ = ("Translation",)


@dataclass(frozen=True)
class Translation:
    """Where some addresses lead, each column as long as they are many."""

    phys: U64Array
    """Physical address, zero where nothing is mapped."""
    present: Array
    known: Array
    """False where a table could not be read, so nothing can be said."""
    problems: Tuple[Problem, ...] = ()
    """What of the tables is damaged."""

    def take(self, rows: Array) -> "Translation":
        """Return those of the given ones."""
        return Translation(
            self.phys[rows], self.present[rows], self.known[rows], self.problems
        )
