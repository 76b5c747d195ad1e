# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Torn BTF
--------

Where each type is, and what its number is, when parts of the type section are lost.
Types follow one another without marks, and a type's number is how many come before it.
So behind a gap two questions have to be answered anew, or not at all:

Where does a type begin? From each word, one would lead to the next; what leads on and on
to what can be types is the chain of types itself.

Which number has it? Types name others by number, and not any kind may stand anywhere: a
function has a prototype, no member is a function, no member is larger than its place. Of
the numbers that there can be, only one goes with what all types say that are left.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

from ..._numpy import Array, np, spread
from .btf_kind import BtfKind
from .torn import Torn

__all__ = ("UNNUMBERED", "find_types")

UNNUMBERED = 1 << 28
"""From here on go the numbers of types whose own is not known: nothing refers to them."""

_WORD = 4
_HEAD_WORDS = 3
_DOUBLINGS = 6
"""A type has to lead to as many others as two to the power of this."""
_FEWEST = 8
"""Types between two gaps that are looked at."""
_MOST_LOST = 40_000
"""Numbers tried for what is behind a gap."""
_LEAST_AGAINST = 3
"""Types that have to speak against each number but one."""
_AT_ONCE = 32
"""Types that are held against numbers together."""

_NAMELESS = (
    BtfKind.PTR,
    BtfKind.ARRAY,
    BtfKind.VOLATILE,
    BtfKind.CONST,
    BtfKind.RESTRICT,
    BtfKind.FUNC_PROTO,
)
_NAMED = (
    BtfKind.INT,
    BtfKind.FWD,
    BtfKind.TYPEDEF,
    BtfKind.FUNC,
    BtfKind.VAR,
    BtfKind.DATASEC,
    BtfKind.FLOAT,
    BtfKind.DECL_TAG,
    BtfKind.TYPE_TAG,
)
_WITH_ELEMENTS = (
    BtfKind.STRUCT,
    BtfKind.UNION,
    BtfKind.ENUM,
    BtfKind.ENUM64,
    BtfKind.FUNC_PROTO,
    BtfKind.DATASEC,
)
_WITH_TYPED_ELEMENTS = (BtfKind.STRUCT, BtfKind.UNION, BtfKind.FUNC_PROTO)
_WITH_TYPE = (
    BtfKind.PTR,
    BtfKind.TYPEDEF,
    BtfKind.VOLATILE,
    BtfKind.CONST,
    BtfKind.RESTRICT,
    BtfKind.FUNC,
    BtfKind.FUNC_PROTO,
    BtfKind.VAR,
    BtfKind.DECL_TAG,
    BtfKind.TYPE_TAG,
)
_SIZES: Dict[BtfKind, Tuple[int, ...]] = {
    BtfKind.INT: (1, 2, 4, 8, 16),
    BtfKind.ENUM: (1, 2, 4, 8),
    BtfKind.ENUM64: (8,),
    BtfKind.FLOAT: (2, 4, 8, 10, 12, 16),
    BtfKind.ARRAY: (0,),
    BtfKind.FWD: (0,),
}
_LARGEST = 1 << 26
"""Bytes that no struct of a kernel has."""
_MOST_ELEMENTS = 0xFFFF


class _Pieces(NamedTuple):
    """Types that follow one another."""

    starts: List[int]
    """The word at which each begins."""
    lost: Tuple[int, int]
    """How many may be lost between them and the piece before, at least and at most."""


def find_types(
    words: Array, leads: Array, torn: Torn, strings: Torn
) -> Tuple[Array, Array]:
    """
    Find types.

    :param words: The type section.
    :param leads: Where the next type would begin if one began at each word.
    :param torn: Which parts of it are lost.
    :param strings: The strings that their names are in.
    :return: The word at which each begins that is there in full, and its number; those
        whose number is not known have some from UNNUMBERED on.
    """
    gone = _gone_words(len(words), torn)
    pieces = _pieces(words, leads, gone, strings)
    starts = np.array([at for piece in pieces for at in piece.starts], np.int64)
    # The last of a piece may reach into the gap.
    ends = leads[starts].astype(np.int64)
    whole = ~torn.is_lost(starts * _WORD, ends * _WORD)
    lengths = [len(piece.starts) for piece in pieces]
    ids = _numbers(words, starts, whole, lengths, pieces)
    return starts[whole], ids[whole]


def _gone_words(count: int, torn: Torn) -> Array:
    gone = np.zeros(count, bool)
    for begin, end in torn.lost:
        gone[begin // _WORD : -(-end // _WORD)] = True
    return gone


def _pieces(words: Array, leads: Array, gone: Array, strings: Torn) -> List[_Pieces]:
    """Find the types between gaps."""
    end = len(words)
    headless = gone.copy()
    headless[:-1] |= gone[1:]
    headless[:-2] |= gone[2:]
    good = np.flatnonzero(_lead_on(words, leads, gone, headless, strings))
    pieces: List[_Pieces] = []
    hop, is_headless = leads.data, headless.tobytes()
    at, fewest, most = 0, 0, 0
    while True:
        found: List[int] = []
        while at < end and not is_headless[at]:
            found.append(at)
            at = hop[at]
        if len(found) >= _FEWEST or not pieces and not fewest:
            pieces.append(_Pieces(found, (fewest, most)))
            fewest = most = 0
        elif found:
            # Too few to be sure that they are types.
            fewest += 1
            most += (at - found[0]) // _HEAD_WORDS
        if at >= end:
            return pieces
        gap = at + int(np.argmax(gone[at:]))
        behind = gone[gap:]
        behind_gap = gap + int(np.argmin(behind)) if not behind.all() else end
        row = int(np.searchsorted(good, behind_gap))
        following = int(good[row]) if row < len(good) else end
        fewest += 1
        most += max((following - at) // _HEAD_WORDS, 1)
        at = following


def _lead_on(
    words: Array, leads: Array, gone: Array, headless: Array, strings: Torn
) -> Array:
    """Return at which words a type may begin, and so on from there."""
    end = len(words)
    # Both that stand behind the leads: what leads to the end is fine.
    fine = np.append(_may_begin(words, leads, gone, strings), [True, False])
    fine[:end] &= ~headless
    # A type whose end is in a gap, or at it, leads nowhere, which says nothing.
    hop = leads.astype(np.int64)
    hop[:end][headless] = np.flatnonzero(headless)
    blind = np.append(headless, [False, False])
    known = np.where(blind, True, fine)
    for _ in range(_DOUBLINGS):
        known &= known[hop]
        hop = hop[hop]
    result: Array = known[:end] & ~headless
    return result


def _may_begin(words: Array, leads: Array, gone: Array, strings: Torn) -> Array:
    """Return at which words there can be a type by itself."""
    end = len(words)
    info = np.append(words[1:], 0)
    third = np.append(words[2:], [0, 0])
    kind = info >> 24 & 0x1F
    count = info & 0xFFFFFF
    fine = (info >> 29 & 3 == 0) & (count <= _MOST_ELEMENTS) & (kind != 0)
    fine &= leads[:end] <= end
    fine &= _are_names(words, strings)
    fine &= ~(np.isin(kind, _NAMELESS) & (words != 0))
    fine &= ~(np.isin(kind, _NAMED) & (words == 0))
    has_elements = np.isin(kind, _WITH_ELEMENTS)
    fine &= has_elements | (count == 0) | (kind == BtfKind.FUNC) & (count < 3)
    fine &= ~np.isin(kind, _WITH_TYPE) | (third < end // _HEAD_WORDS)
    for one, sizes in _SIZES.items():
        fine &= (kind != one) | np.isin(third, sizes)
    fine &= third < _LARGEST
    # The name of the first member, enumerator or parameter, and its type.
    inner = np.append(words[3:], [0, 0, 0])
    named = has_elements & (kind != BtfKind.DATASEC) & (count > 0)
    is_there = ~np.append(gone[3:], [True, True, True])
    fine &= ~(named & is_there) | _are_names(inner, strings)
    typed = np.isin(kind, _WITH_TYPED_ELEMENTS) & (count > 0)
    is_there = ~np.append(gone[4:], [True] * 4)
    fine &= ~(typed & is_there) | (np.append(words[4:], [0] * 4) < end // _HEAD_WORDS)
    result: Array = fine
    return result


def _are_names(offsets: Array, strings: Torn) -> Array:
    """Return which numbers can be where strings begin."""
    begins = np.zeros(len(strings.data) + 1, bool)
    begins[1:-1] = np.frombuffer(strings.data, np.uint8)[:-1] == 0
    begins[0] = True
    for begin, end in strings.lost:
        begins[begin : end + 1] = True
    begins[-1] = False
    names: Array = begins[np.minimum(offsets, len(strings.data))]
    return names


# Numbers


def _numbers(
    words: Array,
    starts: Array,
    whole: Array,
    lengths: List[int],
    pieces: List[_Pieces],
) -> Array:
    """Return the number of each type."""
    numbers = 1 + len(starts) + sum(piece.lost[1] for piece in pieces)
    rules = _rules(words, starts, whole, numbers)
    ids = np.empty(len(starts), np.int64)
    low = high = 1
    begin, unnumbered = 0, UNNUMBERED
    for piece, length in zip(pieces, lengths):
        rows = slice(begin, begin + length)
        begin += length
        low, high = low + piece.lost[0], high + piece.lost[1]
        if high > low:
            number = _only_fitting(rules, rows, low, high)
            if number is None:
                ids[rows] = unnumbered + np.arange(length)
                unnumbered += length
                low, high = low + length, high + length
                continue
            low = high = number
        ids[rows] = low + np.arange(length)
        low = high = low + length
    return ids


class _Rules:
    """
    References of several sorts, and what they may not lead to: a bit for each sort.

    :param numbers: How many there can be.
    :param kinds: Of the types that were found.
    """

    def __init__(self, numbers: int, kinds: Array) -> None:
        self._kinds = kinds
        self._bit = 1
        self.referred = np.zeros(numbers, np.uint32)
        """What refers to each number."""
        self.barred = np.zeros(len(kinds), np.uint32)
        """What may not refer to each type that was found."""

    def those(self, *wanted: BtfKind) -> Array:
        """Return which types are of some kinds."""
        return np.isin(self._kinds, wanted)

    def add(self, targets: Array, barred: Array) -> None:
        """Add that some references lead to none of some types."""
        targets = targets[(targets > 0) & (targets < len(self.referred))]
        self.referred[targets] |= self._bit
        self.barred[barred] |= self._bit
        self._bit <<= 1


def _only_fitting(rules: _Rules, rows: slice, low: int, high: int) -> Optional[int]:
    """
    Return the only number of the first of some types that goes with all rules.

    Each type is held against no more numbers than are tried behind a gap, and soon against
    few: the first types rule out nearly all.
    """
    if high - low > _MOST_LOST:
        return None
    against = np.zeros(high - low + 1, np.int64)
    for begin in range(rows.start, rows.stop, _AT_ONCE):
        barred = rules.barred[begin : min(begin + _AT_ONCE, rows.stop)]
        behind = low + begin - rows.start
        referred = rules.referred[behind : behind + len(against) + len(barred) - 1]
        # A row for each type, with all the numbers that it could have.
        each = _windows(referred, len(against))
        against += ((each & barred[:, None]) != 0).sum(axis=0, dtype=np.uint8)
        left = np.flatnonzero(against < _LEAST_AGAINST)
        if not len(left):
            return None
        low += int(left[0])
        against = against[left[0] : left[-1] + 1]
    return low if len(against) == 1 and not against[0] else None


def _windows(values: Array, size: int) -> Array:
    """Return each so many values that follow one another, as numpy does since 1.20."""
    shape = len(values) - size + 1, size
    windows: Array = np.lib.stride_tricks.as_strided(
        values, shape, values.strides * 2, writeable=False
    )
    return windows


def _rules(words: Array, starts: Array, whole: Array, numbers: int) -> _Rules:
    """Collect who refers to which number, and what cannot be there."""
    kinds = (words[starts + 1] >> 24 & 0x1F).astype(np.int64)
    rules = _Rules(numbers, kinds)
    those, add = rules.those, rules.add
    no_type = (BtfKind.FUNC, BtfKind.VAR, BtfKind.DATASEC, BtfKind.DECL_TAG)
    no_value = (*no_type, BtfKind.FUNC_PROTO, BtfKind.FWD)
    third = words[starts + 2]
    add(third[those(BtfKind.FUNC)], ~those(BtfKind.FUNC_PROTO))
    add(third[those(BtfKind.PTR, BtfKind.TYPEDEF)], those(*no_type))
    add(third[those(BtfKind.PTR)], those(BtfKind.RESTRICT))
    add(third[those(BtfKind.CONST)], those(*no_type, BtfKind.FUNC_PROTO))
    add(third[those(BtfKind.VOLATILE)], those(*no_value))
    add(third[those(BtfKind.FUNC_PROTO)], those(*no_value, BtfKind.ARRAY))
    arrays = starts[those(BtfKind.ARRAY) & whole]
    add(words[arrays + 3], those(*no_value))
    add(words[arrays + 4], ~those(BtfKind.INT))
    protos = starts[those(BtfKind.FUNC_PROTO) & whole]
    parameters = _elements(words, protos, 2)
    add(words[parameters + 1], those(*no_value, BtfKind.ARRAY))
    structs = starts[those(BtfKind.STRUCT) & whole]
    _add_members(rules, words, structs, starts, those(*no_value))
    return rules


def _elements(words: Array, starts: Array, each: int) -> Array:
    """Return the word at which each element of some types begins."""
    row, index = spread(words[starts + 1] & 0xFFFFFF)
    at: Array = starts[row] + _HEAD_WORDS + index * each
    return at


def _add_members(
    rules: _Rules, words: Array, structs: Array, starts: Array, no_value: Array
) -> None:
    """Hold the sizes of members against the room that they have."""
    counts = words[structs + 1] & 0xFFFFFF
    row, index = spread(counts)
    at = structs[row] + _HEAD_WORDS + index * 3
    flagged = (words[structs + 1] >> 31 != 0)[row]
    bits = np.where(flagged, words[at + 2] >> 24, 0)
    offset = np.where(flagged, words[at + 2] & 0xFFFFFF, words[at + 2])
    is_last = index == counts[row] - 1
    following = np.where(is_last, 8 * words[structs + 2][row], np.append(offset[1:], 0))
    room = (following - offset) // 8
    target = words[at + 1]
    plain = (bits == 0) & (offset % 8 == 0) & (room > 0)
    # What is known of a type's size by itself; a pointer has four bytes at least.
    sized = rules.those(
        BtfKind.INT, BtfKind.STRUCT, BtfKind.UNION, BtfKind.ENUM, BtfKind.ENUM64
    )
    size = np.where(sized, words[starts + 2], 0)
    size = np.where(rules.those(BtfKind.PTR), 4, size)
    rules.add(target, no_value)
    for power in range(13):
        least, most = 1 << power >> 1, 1 << power
        fitting = plain & (room > least) & (room <= most)
        rules.add(target[fitting], size > most)
