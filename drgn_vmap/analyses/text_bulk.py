# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Words of many lines at once
---------------------------

Splits a text into words and reads what they are as arrays: hexadecimal and decimal
numbers eight characters at a time, each eight as one 64-bit number.
"""

from typing import Tuple

from .._numpy import Array, U64Array, np
from .text_around import AROUND, CR, prefix_bits

__all__ = ("Words", "eight")

_ONES = np.uint64(0x0101010101010101)
_SPARE = 64
"""Bytes behind a text that may be read with its last word."""
_FACTOR = 0x9E3779B97F4A7C15
"""Odd, so that no bit of what it is multiplied with is lost."""


def _all(byte: int) -> "np.uint64":
    """Return eight times the same byte."""
    return np.uint64(byte) * _ONES


def eight(text: str) -> "np.uint64":
    """Return up to eight characters as :meth:`Words.at` does."""
    return np.uint64(int.from_bytes(text.encode()[:8], "little"))


class Words:
    """
    The words of a text, which are divided by blanks, line by line, without what people's
    tools put around a line.

    What a column holds is told of each word.
    """

    def __init__(self, data: bytes) -> None:
        """:param data: Lines, each with a line feed at its end."""
        padded = data + bytes(_SPARE)
        bytes_ = np.frombuffer(padded, np.uint8)
        self._eight = np.ndarray(
            (len(padded) - 7,), np.dtype("<u8"), padded, strides=(1,)
        )
        text = bytes_[: len(data)]
        is_end = text == 10
        cuts = np.flatnonzero(is_end | (text == 32))
        line_ends = is_end[cuts]
        line = np.cumsum(line_ends) - line_ends
        begin = np.concatenate(([0], cuts[:-1] + 1))
        ends = cuts[line_ends]
        self.lines = len(ends)
        self.line_begin: Array = np.concatenate(([0], ends[:-1] + 1))
        self.line_end: Array = ends
        # Of each line, what is not around it: bits of AROUND tell what that is.
        self.text_begin: Array = self.line_begin
        self.text_end: Array = self.line_end
        self.around: Array = np.zeros(self.lines, np.uint8)
        self._pass_over_prefixes(data, text)
        self._pass_over_cr()
        if self.around.any():
            begin = np.maximum(begin, self.text_begin[line])
            cuts = np.minimum(cuts, self.text_end[line])
        some = cuts > begin
        self.begin: Array = begin[some]
        self.end: Array = cuts[some]
        self.line: Array = line[some]
        # The first word of each line, and where those behind the last one begin.
        first = np.searchsorted(self.line, np.arange(self.lines + 1))
        self.first: Array = first[:-1]
        self.words: Array = np.diff(first)
        self.index: Array = np.arange(len(self.begin)) - first[self.line]
        self.length: Array = self.end - self.begin
        self.key: U64Array = self._masked(self._eight[self.begin], self.length)

    def at(self, place: Array) -> U64Array:
        """Return the eight characters from a place on, the first as the lowest byte."""
        return self._eight[place]

    def byte(self, place: Array) -> Array:
        """Return the character at a place."""
        return (self._eight[place] & np.uint64(0xFF)).astype(np.uint8)

    def hashes(self, begin: Array, end: Array) -> U64Array:
        """
        Return a number for what stands between two places; of two texts that differ, it
        is the same by a chance of one in 2**64.
        """
        length = end - begin
        found = length.astype(np.uint64)
        for at in range(0, int(length.max(initial=0)), 8):
            rows = np.flatnonzero(length > at)
            eight = self._masked(self._eight[begin[rows] + at], length[rows] - at)
            mixed = (found[rows] ^ eight) * np.uint64(_FACTOR)
            found[rows] = mixed ^ mixed >> np.uint64(32)
        return found

    def decimal(self, end: Array, length: Array) -> Tuple[U64Array, Array]:
        """
        Return numbers of up to 16 digits, and which ones are such.

        :param end: Behind the last digit.
        """
        low, is_low = self._eight_digits(end, np.clip(length, 0, 8))
        high, is_high = self._eight_digits(end - 8, np.clip(length - 8, 0, 8))
        good = is_low & is_high & (length > 0) & (length <= 16)
        good &= self.byte(end - length) != ord("0")
        return high * np.uint64(10**8) + low, good

    def hexadecimal(self, end: Array, length: Array) -> Tuple[U64Array, Array]:
        """Return numbers of up to 16 digits, and which ones are such."""
        low, is_low = self._eight_hex(end, np.clip(length, 0, 8))
        high, is_high = self._eight_hex(end - 8, np.clip(length - 8, 0, 8))
        good = is_low & is_high & (length > 0) & (length <= 16)
        return high << np.uint64(32) | low, good

    def _pass_over_prefixes(self, data: bytes, text: Array) -> None:
        """Let lines begin with the first addresses in them, if what is before is known."""
        rows = np.flatnonzero(
            self.at(self.line_begin) & np.uint64(0xFFFF) != eight("0x")
        )
        if not len(rows):
            return
        dashes = np.flatnonzero(text == ord("-"))
        dashes = dashes[self.at(dashes) & np.uint64(0xFFFFFF) == eight("-0x")]
        first = np.searchsorted(dashes, self.line_begin[rows])
        has_one = first < np.searchsorted(dashes, self.line_end[rows])
        rows = rows[has_one]
        dash, least = dashes[first[has_one]], self.line_begin[rows]
        head = least
        for digits in (8, 16):
            place = np.maximum(dash - digits - 2, least)
            is_it = self.at(place) & np.uint64(0xFFFF) == eight("0x")
            head = np.where(is_it, place, head)
        some = np.flatnonzero(head > least)
        places = zip(least[some].tolist(), head[some].tolist())
        bits = np.array(prefix_bits(data, places), np.uint8)
        self.around[rows[some]] = bits
        known = some[bits > 0]
        self.text_begin = self.line_begin.copy()
        self.text_begin[rows[known]] = head[known]

    def _pass_over_cr(self) -> None:
        """Let lines end before a CR at their ends."""
        some = self.line_end > self.line_begin
        has_cr = some & (self.byte(np.maximum(self.line_end - 1, 0)) == ord("\r"))
        self.text_end = self.line_end - has_cr
        self.around[has_cr] |= 1 << AROUND.index(CR)

    @staticmethod
    def _masked(eight: U64Array, length: Array) -> U64Array:
        """Keep the first characters alone."""
        masks = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
        return eight & masks[np.minimum(length, 8)]

    def _last(self, end: Array, length: Array) -> U64Array:
        """Return up to eight characters before a place, behind zeros."""
        masks = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
        before = masks[8 - length]
        return self._eight[np.maximum(end - 8, 0)] & ~before | _all(0x30) & before

    def _eight_digits(self, end: Array, length: Array) -> Tuple[U64Array, Array]:
        signs = self._last(end, length)
        high = _all(0xF0)
        good = (signs & high == _all(0x30)) & (signs + _all(6) & high == _all(0x30))
        found = signs - _all(0x30)
        for factor, bits, mask in (
            (10, 8, 0x00FF00FF00FF00FF),
            (100, 16, 0x0000FFFF0000FFFF),
            (10000, 32, 0x00000000FFFFFFFF),
        ):
            found = found * np.uint64(factor) + (found >> np.uint64(bits))
            found &= np.uint64(mask)
        return found, good

    def _eight_hex(self, end: Array, length: Array) -> Tuple[U64Array, Array]:
        signs = self._last(end, length)
        found = (signs & _all(0x0F)) + (signs >> np.uint64(6) & _ONES) * np.uint64(9)
        found &= _all(0x0F)
        letters = (found + _all(6)) >> np.uint64(4) & _ONES
        # What these digits look like is what is there, if they are ones.
        good = found + _all(0x30) + letters * np.uint64(0x27) == signs
        found = found.byteswap()
        for bits, mask in (
            (4, 0x00FF00FF00FF00FF),
            (8, 0x0000FFFF0000FFFF),
            (16, 0x00000000FFFFFFFF),
        ):
            found = (found | found >> np.uint64(bits)) & np.uint64(mask)
        return found, good
