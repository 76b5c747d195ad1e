# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Selection
---------

Picks and orders the areas that a command shows.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Optional, Sequence, Tuple

from .._numpy import Array, np
from ..model.areas import Snapshot, State
from .kinds import kind_masks
from .vmallocinfo import listed_rows

__all__ = ("SORTS", "Selection", "callers_like", "select_rows")

SORTS = ("address", "kernel", "size", "pages")


@dataclass(frozen=True)
class Selection:
    """Which areas to show, and how sorted."""

    kinds: Sequence[str] = ()
    """Any of these kinds; all if empty."""
    caller: Optional[str] = None
    """Glob for the caller's symbol, or for its whole text."""
    min_size: int = 0
    """Bytes."""
    range: Optional[Tuple[int, int]] = None
    """Areas that overlap this."""
    sort: str = "kernel"
    """One of SORTS; "kernel" is the order of /proc/vmallocinfo."""
    limit: Optional[int] = None
    """How many at most, of these the first."""


def select_rows(snapshot: Snapshot, selection: Selection, as_listed: bool) -> Array:
    """
    Return the rows of ``snapshot.areas`` that match, sorted.

    :param as_listed: Keep to those that /proc/vmallocinfo has a line for; ranges
        in states that it knows nothing of follow all the same.
    """
    areas = snapshot.areas
    rows = np.arange(len(areas))
    if as_listed:
        beyond = rows[areas.state > State.LAZY]
        rows = np.concatenate((listed_rows(snapshot), beyond))
    rows = rows[_matches(snapshot, selection)[rows]]
    return rows[_order(snapshot, rows, selection.sort)][: selection.limit]


def _matches(snapshot: Snapshot, selection: Selection) -> Array:
    areas = snapshot.areas
    matches = areas.end - areas.start >= np.uint64(selection.min_size)
    if selection.kinds:
        masks = kind_masks(snapshot)
        matches &= np.any([masks[kind] for kind in selection.kinds], axis=0)
    if selection.caller is not None:
        matches &= np.isin(areas.caller, callers_like(snapshot, selection.caller))
    if selection.range is not None:
        start, end = selection.range
        matches &= (areas.start < np.uint64(end)) & (areas.end > np.uint64(start))
    return matches


def callers_like(snapshot: Snapshot, glob: str) -> Array:
    """Return the addresses of callers that a glob matches, by symbol or whole text."""
    found = [
        address
        for address, text in snapshot.callers.items()
        if fnmatchcase(text.partition("+")[0], glob) or fnmatchcase(text, glob)
    ]
    return np.array(found, np.uint64)


def _order(snapshot: Snapshot, rows: Array, sort: str) -> Array:
    areas = snapshot.areas
    if sort == "kernel":
        return np.arange(len(rows))
    start = areas.start[rows]
    if sort == "address":
        return np.argsort(start, kind="stable")
    largest = areas.end[rows] - start if sort == "size" else areas.nr_pages[rows]
    return np.lexsort((start, np.iinfo(np.uint64).max - largest))
