# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Several snapshots in one text
-----------------------------

Who watches a host writes one copy of /proc/vmallocinfo behind the other, with a date, a
prompt or nothing between. No area is listed twice at one moment, so another snapshot
begins where what the one before began with comes again; lines with but a note between
them are of one. Other lines that come again are of a kernel that changed while it was
read: it counts the lines that it printed, and areas that are new among these push others
back behind them.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Tuple

from .._numpy import Array, np
from .text_lines import Lines

__all__ = ("Part", "parts_of")

_HEAD = 20
"""Lines that a snapshot is known by, its first."""
_WINDOW = 2 * _HEAD
"""Lines within which these come again, if more than half of them do."""

_TIME = re.compile(r"[0-9]{1,2}:[0-9]{2}|[0-9]{4}-[0-9]{2}|^[0-9]{9,}")
_DIVIDER = re.compile(r"[0-9]{1,2}:[0-9]{2}|[-=_*#~]{3,}|vmallocinfo|[0-9]{4}-[0-9]{2}")

_Notes = Sequence[Tuple[int, str]]


@dataclass(frozen=True)
class Part:
    """Rows of one snapshot."""

    first: int
    last: int
    """The first row behind it."""
    title: str
    """What stands before it, a date if there is one."""


def parts_of(lines: Lines, notes: _Notes) -> Sequence[Part]:
    """
    Tell snapshots apart.

    :param notes: What stands between the lines, by the number of its line, in order.
    """
    keys = np.where(lines.start, lines.start, lines.end)
    hidden = not keys.any()
    if hidden:
        # Without addresses, the first line tells: who made it, and how large.
        keys = lines.size * np.uint64(len(lines.callers.texts))
        keys += lines.caller.astype(np.uint64)
    before, after = _same(keys)
    begins: List[int] = []
    for first, last in _blocks(lines, notes):
        part = begins[-1] if begins else 0
        between = _notes_before(lines, notes, first)
        divided = any(_DIVIDER.search(text) for text in between)
        same = keys[first] == keys[part] if hidden else before[first:last] >= part
        if not begins or (divided and np.any(same)):
            begins.append(first)
        if not hidden:
            found = _within(after, lines.start, begins[-1], last)
            # What is new stands before the first that was there before, also here.
            if found and begins[-1] < first < found[0] < first + _HEAD:
                found[0] = first
            begins += found
    ends = [*begins[1:], len(lines)]
    return [
        Part(first, last, _title(lines, notes, first))
        for first, last in zip(begins, ends)
    ]


def _blocks(lines: Lines, notes: _Notes) -> Iterator[Tuple[int, int]]:
    """Yield runs of rows that have no note between them."""
    at = np.searchsorted(lines.number, [number for number, _ in notes])
    cuts = np.unique(at[(at > 0) & (at < len(lines))]).tolist()
    yield from zip([0, *cuts], [*cuts, len(lines)])


def _same(keys: Array) -> Tuple[Array, Array]:
    """Return for each row the one before and the one after it with the same key."""
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    before = np.full(len(keys), -1)
    after = np.full(len(keys), len(keys))
    before[order[1:][same]] = order[:-1][same]
    after[order[:-1][same]] = order[1:][same]
    return before, after


def _within(after: Array, start: Array, first: int, last: int) -> List[int]:
    """Return where snapshots begin that follow one another with nothing between."""
    found: List[int] = []
    while True:
        row = _comes_again(after, first, last)
        if row is None:
            return found
        # New areas may stand before the first that was there before.
        while row - 1 > first and start[row - 1] < start[row]:
            row -= 1
        found.append(row)
        first = row


def _comes_again(after: Array, first: int, last: int) -> Optional[int]:
    """Return the row from which on what a snapshot began with stands there again."""
    again = np.sort(after[first : min(first + _HEAD, last)])
    for row in again[(again >= first + 2) & (again < last)].tolist():
        near = np.count_nonzero((again >= row) & (again < min(row + _WINDOW, last)))
        if 2 * near > min(_HEAD, row - first):
            return int(row)
    return None


def _notes_before(lines: Lines, notes: _Notes, row: int) -> List[str]:
    low = int(lines.number[row - 1]) if row else 0
    high = int(lines.number[row])
    near = notes[bisect_left(notes, (low + 1, "")) : bisect_left(notes, (high, ""))]
    return [text for _, text in near if text]


def _title(lines: Lines, notes: _Notes, row: int) -> str:
    before = _notes_before(lines, notes, row)
    dates = [text for text in before if _TIME.search(text)]
    return (dates or before or [""])[-1].strip()
