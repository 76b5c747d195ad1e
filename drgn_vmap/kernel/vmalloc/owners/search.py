# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A search for owners
-------------------

What all kinds of owners are looked for in.
"""

from functools import cached_property
from typing import Optional

from ....model.areas import Snapshot
from ...target import Target
from .busy import BusyAreas
from .task_list import Tasks, read_tasks

__all__ = ("Search",)


class Search:
    """
    A target, and the areas whose owners are wanted.

    :param snapshot: Of the target.
    """

    def __init__(self, target: Target, snapshot: Snapshot) -> None:
        self.target = target
        self.busy = BusyAreas(snapshot)

    def symbol(self, name: str) -> Optional[int]:
        """Return the address of a variable, whatever its type is; None if there is none."""
        found = self.target.prog.symbols(name)
        return int(found[0].address) if found else None

    @cached_property
    def tasks(self) -> Tasks:
        """
        All tasks.

        :raises VmapError: if they cannot be read.
        """
        return read_tasks(self.target)
