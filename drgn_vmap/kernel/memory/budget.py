# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Budget
------

How much a target's numbers may make a verb do. An area may claim any number of pages,
and many areas may; together they cannot own more than the machine has.
"""

from ..._numpy import Array, np
from ...errors import Fault, SymbolsError
from ..doors import Values
from .frames import node_spans

__all__ = ("affordable", "ram_pages")

_LEAST = 1 << 20
"""As many pages are looked at in any case: 4 GiB of 4 KiB."""
_MOST = 1 << 30
"""More than any machine has."""


def ram_pages(values: Values) -> int:
    """
    Return how many pages of RAM there are at most, by what says least.

    :return: Some number of pages that does no harm if nothing tells.
    """
    told = [_MOST]
    try:
        told.append(sum(span.end - span.first for span in node_spans(values)))
    except (Fault, SymbolsError):
        pass
    try:
        told.append(
            values.number(lambda prog: prog["_totalram_pages"].counter) or _MOST
        )
    except Fault:
        pass
    return max(min(told), _LEAST)


def affordable(counts: Array, most: int) -> Array:
    """
    Return which claims can be followed within a budget; the largest are given up first.

    :param counts: How many pages each claims.
    :param most: How many may be looked at in sum.
    """
    order = np.argsort(counts, kind="stable")
    # A sum that wraps around would look small; each is cut to what no sum of all wraps.
    bounded = np.minimum(counts[order], np.uint64(most + 1)).astype(np.uint64)
    within = np.zeros(len(counts), bool)
    within[order] = np.cumsum(bounded) <= np.uint64(most)
    return within
