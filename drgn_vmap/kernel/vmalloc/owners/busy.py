# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Busy areas
----------

The areas that may have owners, to be found by what points at them.
"""

from typing import Iterator, Tuple

from ...._numpy import Array, U64Array, np
from ....model.areas import Snapshot, State
from ....model.owners import Owner

__all__ = ("BusyAreas", "Claim")

Claim = Tuple[int, Owner]
"""An area's row in the snapshot, and one that points at it."""

NONE = -1
"""The row of no area."""


class BusyAreas:
    """The areas in use of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        areas = snapshot.areas
        rows = np.flatnonzero(areas.state == State.BUSY)
        self.rows = rows[np.argsort(areas.start[rows], kind="stable")]
        """Ascending by start."""
        self.areas = areas
        self._start = areas.start[self.rows]
        self._end = areas.end[self.rows]
        self._by_vm = rows[np.argsort(areas.vm[rows], kind="stable")]

    def holding(self, addresses: U64Array) -> Array:
        """Return the row of the area that each address lies in, -1 for none."""
        if not len(self.rows):
            return np.full(len(addresses), NONE)
        at = np.searchsorted(self._start, addresses, side="right") - 1
        place = np.maximum(at, 0)
        inside = (at >= 0) & (addresses < self._end[place])
        return np.where(inside, self.rows[place], NONE)

    def starting(self, addresses: U64Array) -> Array:
        """Return the row of the area that begins at each address, -1 for none."""
        return self._equal(self._start, self.rows, addresses)

    def of_vm(self, addresses: U64Array) -> Array:
        """Return the row of the area of each ``struct vm_struct``, -1 for none."""
        return self._equal(self.areas.vm[self._by_vm], self._by_vm, addresses)

    def pairs(self, addresses: U64Array) -> Iterator[Tuple[int, int]]:
        """Yield which of some addresses lie in an area, and that area's row."""
        rows = self.holding(addresses)
        at = np.flatnonzero(rows != NONE)
        yield from zip(at.tolist(), rows[at].tolist())

    @staticmethod
    def _equal(keys: U64Array, rows: Array, addresses: U64Array) -> Array:
        if not len(rows):
            return np.full(len(addresses), NONE)
        place = np.minimum(np.searchsorted(keys, addresses), len(keys) - 1)
        found = (keys[place] == addresses) & (addresses != 0)
        return np.where(found, rows[place], NONE)
