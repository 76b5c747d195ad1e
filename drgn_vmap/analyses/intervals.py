# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Intervals
---------

How much of some ranges of addresses lies where.
"""

from .._numpy import U64Array, np

__all__ = ("bytes_below",)


def bytes_below(start: U64Array, end: U64Array, addresses: U64Array) -> U64Array:
    """
    Return how many bytes of some ranges lie below each address.

    :param start: Where each range begins, ascending.
    :param end: Where it ends; none overlaps another.
    """
    if not len(start):
        return np.zeros(len(addresses), np.uint64)
    before = np.concatenate(([np.uint64(0)], np.cumsum(end - start)))
    at = np.searchsorted(start, addresses, side="right")
    last = np.maximum(at, 1) - 1
    beyond = np.where(at > 0, end[last] - np.minimum(end[last], addresses), 0)
    below: U64Array = before[at] - beyond.astype(np.uint64)
    return below
