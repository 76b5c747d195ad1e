# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Torn data
---------

A large piece of a target's memory, such as its BTF, of which pages may be lost. What is
left of it is read all the same, and which bytes are lost is known.
"""

from typing import NamedTuple, Tuple

from ..._numpy import Array, np

__all__ = ("Torn",)


class Torn(NamedTuple):
    """Bytes, of which some may be lost."""

    data: bytes
    """Zero where they are lost."""
    lost: Tuple[Tuple[int, int], ...] = ()
    """Where that is: begin and end of each gap, ascending, with something in between."""

    def part(self, begin: int, end: int) -> "Torn":
        """Return a part."""
        lost = (
            (max(start, begin) - begin, min(stop, end) - begin)
            for start, stop in self.lost
            if start < end and stop > begin
        )
        return Torn(self.data[begin:end], tuple(lost))

    def is_lost(self, begins: Array, ends: Array) -> Array:
        """Return which of some ranges of bytes are lost in part, those of none never."""
        starts, stops = np.array(self.lost or [(0, 0)], np.int64).T
        at = np.searchsorted(stops, begins, side="right")
        following = np.append(starts, np.iinfo(np.int64).max)
        lost: Array = (following[at] < ends) & (begins < ends)
        return lost

    def has(self, begin: int, end: int) -> bool:
        """Return whether a range of bytes is all there."""
        return not any(start < end and stop > begin for start, stop in self.lost)
