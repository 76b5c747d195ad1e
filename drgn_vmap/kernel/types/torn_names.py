# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Torn names
----------

Where each packed name is when parts of kallsyms_names are lost (kernel/kallsyms.c). Each
is found by the end of the one before. kallsyms_markers has the start of each 256th, so a
gap costs the names up to the next marker at most; and of these, those come back whose end
is that marker, counted from there.
"""

import re
import struct
from typing import Dict, List, Optional, Sequence, Tuple

from ..._numpy import Array, np
from .heads import LOST, NAMES_A_MARKER, behind_length
from .torn import Torn

__all__ = ("count_names", "find_names")

_BIG = 0x80
_LONGEST = 512
"""KSYM_NAME_LEN, and more bytes than any packed name has."""
_LINE = re.compile(rb"[A-Za-z?][!-~]+")
"""What a type and a name look like."""
_ALIGNMENT = 8
_SEQUENCE_BYTES = 3
"""In kallsyms_seqs_of_names."""


def find_names(
    packed: Torn, count: int, tokens: Sequence[Optional[bytes]], order: str
) -> Tuple[Array, Array]:
    """
    Find names.

    :param packed: kallsyms_names, and what follows up to kallsyms_token_table.
    :return: Where each begins and ends, LOST for those that are lost.
    """
    lanes = -(-count // NAMES_A_MARKER)
    finder = _Finder(packed, tokens)
    markers, _ = _find_markers(packed, count, order)
    markers = markers or [0] + [LOST] * (lanes - 1)
    starts = np.full((lanes, NAMES_A_MARKER), LOST, np.int64)
    ends = starts.copy()
    behind = 0
    for lane, marker in enumerate(markers):
        begin = behind if marker == LOST else marker
        stop = markers[lane + 1] if lane + 1 < lanes else LOST
        size = min(NAMES_A_MARKER, count - lane * NAMES_A_MARKER)
        found = finder.forward(begin, size)
        if len(found) == size + 1 and stop in (found[-1], LOST):
            behind = found[-1]
        elif len(found) == size + 1:
            # One of both is damaged, and which is not known.
            behind, found = stop, []
        else:
            behind = stop
            tail = finder.backward(stop, size - len(found)) if stop != LOST else []
            at = size - len(tail) + 1
            starts[lane, at:size], ends[lane, at:size] = tail[:-1], tail[1:]
        known = max(len(found) - 1, 0)
        starts[lane, :known], ends[lane, :known] = found[:-1], found[1:]
    starts, ends = starts.reshape(-1)[:count], ends.reshape(-1)[:count]
    # The length of a name may be there, and what it is of not.
    lost = (starts != LOST) & packed.is_lost(starts, ends)
    starts[lost] = ends[lost] = LOST
    return starts, ends


def _find_markers(packed: Torn, count: int, order: str) -> Tuple[List[int], int]:
    """
    Find kallsyms_markers.

    :return: Where each 256th name begins, LOST where that is lost, and where the markers
        are; none if they are not known to be where they should be.
    """
    lanes = -(-count // NAMES_A_MARKER)
    size = 4 * lanes
    places = np.arange(lanes) * 4
    # Since Linux kernel commit 60443c88f3a8 ("kallsyms: Improve the performance of
    # kallsyms_lookup_name()") (in v6.2), kallsyms_seqs_of_names may lie behind them.
    for behind in (0, _SEQUENCE_BYTES * count):
        last = len(packed.data) - behind
        for end in range(last, max(last - _ALIGNMENT, size), -1):
            part = packed.part(end - size, end)
            markers = np.frombuffer(part.data, f"{order}u4").astype(np.int64)
            markers[part.is_lost(places, places + 4)] = LOST
            if _are_markers(markers, end - size):
                return [int(marker) for marker in markers], end - size
    return [], 0


def _are_markers(markers: Array, end: int) -> bool:
    known = markers[markers != LOST]
    if not len(known) or markers[0] not in (0, LOST) or known[-1] >= end:
        return False
    return bool((np.diff(known) >= 2 * NAMES_A_MARKER).all())


class _Finder:
    """Goes from name to name."""

    def __init__(self, packed: Torn, tokens: Sequence[Optional[bytes]]) -> None:
        self._data = packed.data
        self._tokens = tokens
        self._gone = bytearray(len(packed.data) + 2)
        for begin, end in [*packed.lost, (len(packed.data), len(self._gone))]:
            self._gone[begin:end] = bytes([1]) * (end - begin)
        self._gaps = packed.lost
        self._ends: Dict[int, int] = {}

    def forward(self, at: int, count: int) -> List[int]:
        """Return where names begin from a place on, and where the last of these ends."""
        found: List[int] = []
        while at != LOST and len(found) <= count:
            found.append(at)
            at = self._next(at)
        return found

    def backward(self, stop: int, count: int) -> List[int]:
        """
        Return the starts of the last names before a place, and that: those on which all
        agree that lead there from behind the gap before it.

        :param count: No more than so many.
        """
        gap = max((end for _, end in self._gaps if end <= stop), default=0)
        chains = []
        for at in range(gap, min(gap + _LONGEST, stop)):
            chain = self._chain(at, stop, count)
            if chain:
                chains.append(chain)
        if not chains:
            return [stop]
        shortest = min(map(len, chains))
        for length in range(1, shortest):
            if len({chain[-length - 1] for chain in chains}) > 1:
                return chains[0][-length:]
        return chains[0][-shortest:]

    def _chain(self, at: int, stop: int, count: int) -> List[int]:
        """Return the names from a place to another; none if that cannot be."""
        chain = [at]
        while at < stop and len(chain) <= count:
            at = self._next_right(at)
            if at == LOST:
                return []
            chain.append(at)
        return chain if at == stop else []

    def _next(self, at: int) -> int:
        """Return where the name at a place ends."""
        if at >= len(self._data) or self._gone[at]:
            return LOST
        length = self._data[at]
        if length & _BIG:
            if self._gone[at + 1]:
                return LOST
            length = 1 + (length & ~_BIG | self._data[at + 1] << 7)
        end = at + 1 + length
        return LOST if length == 0 or end > len(self._data) else end

    def _next_right(self, at: int) -> int:
        """Return where a name ends if it looks like one."""
        if at not in self._ends:
            end = self._next(at)
            if end == LOST or end - at > _LONGEST or not self._looks_right(at, end):
                end = LOST
            self._ends[at] = end
        return self._ends[at]

    def _looks_right(self, at: int, end: int) -> bool:
        codes = self._data[behind_length(at, self._data[at]) : end]
        texts = [self._tokens[code] for code in codes]
        # Of a token that is lost, any text may be right.
        return bool(_LINE.fullmatch(b"".join(text or b"xx" for text in texts)))


def count_names(packed: Torn, order: str, at_most: Optional[int]) -> Optional[int]:
    """
    Count the names where their number is lost.

    :param at_most: How many there is room for elsewhere, to a single one.
    :return: None if that cannot be known.
    """
    guesses = [at_most, at_most - 1] if at_most else _count_markers(packed, order)
    finder = _Finder(packed, [])
    for guess in guesses:
        lanes = -(-guess // NAMES_A_MARKER)
        markers, place = _find_markers(packed, guess, order)
        if not markers or markers[-1] == LOST:
            continue
        # Behind the last name there is nothing but what aligns the markers.
        last = finder.forward(markers[-1], NAMES_A_MARKER)
        count = (lanes - 1) * NAMES_A_MARKER + len(last) - 1
        if 0 <= place - last[-1] < _ALIGNMENT and count in (guess, at_most or count):
            return count
    return None


def _count_markers(packed: Torn, order: str) -> List[int]:
    """Return how many names there may be by the markers before the end: a few guesses."""
    guesses = []
    for end in range(len(packed.data), len(packed.data) - _ALIGNMENT, -1):
        following, lanes = len(packed.data), 0
        for at in range(end - 4, -1, -4):
            (marker,) = struct.unpack_from(f"{order}I", packed.data, at)
            if not marker < following or not packed.has(at, at + 4):
                break
            lanes, following = lanes + 1, marker
            if marker == 0:
                guesses.append(lanes * NAMES_A_MARKER)
                break
    return guesses
