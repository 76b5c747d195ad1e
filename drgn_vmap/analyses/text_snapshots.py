# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Several snapshots in one text
-----------------------------

Who watches a host writes one copy of /proc/vmallocinfo behind the other, with a date, a
prompt or nothing between. No area is listed twice at one moment, so an address that
comes again begins another snapshot; lines with but a note between them are of one.
"""

import re
from dataclasses import dataclass
from typing import Iterator, List, Sequence, Tuple

from .._numpy import Array, np
from .text_lines import Lines

__all__ = ("Part", "parts_of")

_LOOK_AHEAD = 20
"""Lines that are looked at to tell a second snapshot from a line that came twice."""

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

    :param notes: What stands between the lines, by the number of its line.
    """
    keys = np.where(lines.start, lines.start, lines.end)
    hidden = not keys.any()
    if hidden:
        # Without addresses, the first line tells: who made it, and how large.
        keys = lines.size * np.uint64(len(lines.callers.texts))
        keys += lines.caller.astype(np.uint64)
    begins: List[int] = []
    for first, last in _blocks(lines, notes):
        part = begins[-1] if begins else 0
        if not begins or _begins(keys, part, first, last, hidden, lines, notes):
            begins.append(first)
        if not hidden:
            begins += _within(keys, lines.start, begins[-1], last)
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


def _begins(
    keys: Array,
    part: int,
    first: int,
    last: int,
    hidden: bool,
    lines: Lines,
    notes: _Notes,
) -> bool:
    """Whether a block is the beginning of another snapshot."""
    if not hidden:
        return bool(np.isin(keys[first:last], keys[part:first]).any())
    between = _notes_before(lines, notes, first)
    divided = any(_DIVIDER.search(text) for text in between)
    return divided and bool(keys[first] == keys[part])


def _within(keys: Array, start: Array, first: int, last: int) -> List[int]:
    """Return where snapshots begin that follow one another with nothing between."""
    found: List[int] = []
    while True:
        _, once = np.unique(keys[first:last], return_index=True)
        again = np.ones(last - first, bool)
        again[once] = False
        repeats = np.flatnonzero(again)
        split = next(
            (
                int(row)
                for row in repeats.tolist()
                if 2 * again[row : row + _LOOK_AHEAD].sum()
                > min(_LOOK_AHEAD, last - first - row)
            ),
            None,
        )
        if split is None or split < 2 or len(repeats) < 2:
            return found
        row = first + split
        # New areas may stand before the first that was there before.
        while row - 1 > first and start[row - 1] < start[row]:
            row -= 1
        found.append(row)
        first = row


def _notes_before(lines: Lines, notes: _Notes, row: int) -> List[str]:
    low = int(lines.number[row - 1]) if row else 0
    high = int(lines.number[row])
    return [text for number, text in notes if low < number < high and text]


def _title(lines: Lines, notes: _Notes, row: int) -> str:
    before = _notes_before(lines, notes, row)
    dates = [text for text in before if _TIME.search(text)]
    return (dates or before or [""])[-1].strip()
