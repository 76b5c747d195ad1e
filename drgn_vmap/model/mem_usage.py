# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What memory is used for
-----------------------

Each page of RAM in one class, as makedumpfile has them.
"""

import enum
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from .areas import Kernel, Problem

__all__ = ("MemUsage", "PageClass")


class PageClass(enum.IntEnum):
    """What a page is; the first six are the lines of makedumpfile's table."""

    ZERO = 0
    NON_PRI_CACHE = 1
    PRI_CACHE = 2
    USER = 3
    FREE = 4
    KERN_DATA = 5
    LEFT_OUT = 6
    """Offline or poisoned."""
    UNKNOWN = 7
    """Its struct page cannot be read."""

    @property
    def in_table(self) -> bool:
        """Whether it has a line in the table."""
        return self <= PageClass.KERN_DATA

    @property
    def excludable(self) -> bool:
        """Whether ``makedumpfile -d 31`` leaves such pages out of a dump."""
        return self < PageClass.KERN_DATA


@dataclass(frozen=True)
class MemUsage:
    """How many pages of RAM are in each class."""

    kernel: Kernel
    pages: Mapping[PageClass, int]
    mapped: Optional[Mapping[PageClass, int]]
    """Those of them that vmalloc areas map; None if the page table cannot be read."""
    problems: Tuple[Problem, ...]

    @property
    def total(self) -> int:
        """Pages of RAM."""
        return sum(self.pages.values())
