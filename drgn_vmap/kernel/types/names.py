# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Names
-----

Names of the symbols that a kernel carries (kernel/kallsyms.c), each with its type
before it, as in nm(1). The kernel keeps them compressed, and as there are a hundred
thousand, and few are ever asked for, only these are unpacked.
"""

import struct
from array import array
from functools import cached_property
from typing import List, Optional, Sequence, Tuple

from ..._numpy import Array, U64Array, np
from .heads import (
    HEAD_BYTES,
    LOST,
    NAMES_A_MARKER,
    behind_length,
    head_of,
    heads_of,
    rows_with_head,
)

__all__ = ("PackedNames", "PlainNames")

_HEAD_BITS = 8 * HEAD_BYTES
_BIG = 0x80
"""Set in the first byte of a length that has two."""


class PlainNames:
    """
    Names that are a text.

    :param text: A line for each, with a newline at both ends.
    """

    is_torn = False
    """Whether some of them are lost."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __len__(self) -> int:
        return len(self.lines)

    @cached_property
    def lines(self) -> Array:
        """Where each line begins."""
        newlines = np.flatnonzero(np.frombuffer(self.text, np.uint8) == ord("\n"))
        return newlines[:-1] + 1

    def line(self, index: int) -> Optional[bytes]:
        """Return the type and the name of the symbol of this index."""
        start = int(self.lines[index])
        return self.text[start : self.text.index(b"\n", start)]

    def indices(self, name: bytes) -> List[int]:
        """Return the indices of the symbols of this name."""
        return self.beginning_with(name + b"\n")

    def beginning_with(self, head: bytes) -> List[int]:
        """Return the indices of the symbols whose names begin so."""
        found = []
        at = self.text.find(head)
        while at > 0:
            # Before a name there is its type, and a newline before that.
            if self.text[at - 2 : at - 1] == b"\n":
                found.append(at - 1)
            at = self.text.find(head, at + 1)
        indices: List[int] = np.searchsorted(self.lines, found).tolist()
        return indices


class PackedNames:
    """
    Names as the kernel keeps them.

    :param data: kallsyms_names, and what follows up to the next table that is known.
    :param count: How many names there are.
    :param tokens: The text that each byte of a name stands for; None if it is lost.
    :param order: Of the kernel's bytes, ``<`` or ``>``.
    :param places: Where each begins and ends, LOST for those that are lost; None if all
        are there.
    :raises IndexError: if the data ends before that many names.
    """

    def __init__(
        self,
        data: bytes,
        count: int,
        tokens: Sequence[Optional[bytes]],
        order: str,
        places: Optional[Tuple[Array, Array]] = None,
    ) -> None:
        self._data = data
        self._tokens = tokens
        self.is_torn = places is not None or None in tokens
        """Whether some of them are lost."""
        if places is not None:
            self._starts, self._ends = places
            return
        # The start of the last name is followed by its end.
        bounds = _starts_by_markers(data, count, order)
        if bounds is None:
            bounds = _starts_one_by_one(data, count)
        self._starts, self._ends = bounds[:-1], bounds[1:]

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def starts(self) -> Array:
        """Where each name begins, in the data."""
        return self._starts

    def line(self, index: int) -> Optional[bytes]:
        """Return the type and the name of the symbol of this index; None if lost."""
        start, end = int(self._starts[index]), int(self._ends[index])
        if start == LOST:
            return None
        packed = self._data[behind_length(start, self._data[start]) : end]
        texts = [self._tokens[byte] for byte in packed]
        return None if None in texts else b"".join(text or b"" for text in texts)

    def indices(self, name: bytes) -> List[int]:
        """Return the indices of the symbols of this name."""
        some = rows_with_head(self._heads, name)
        return [i for i in some if (self.line(i) or b"")[1:] == name]

    def beginning_with(self, head: bytes) -> List[int]:
        """Return the indices of the symbols whose names begin so."""
        mask = np.uint64(head_of(b"\xff" * len(head)))
        same: Array = self._heads & mask == np.uint64(head_of(head))
        some = np.flatnonzero(same).tolist()
        return [i for i in some if (self.line(i) or b"")[1:].startswith(head)]

    def count_missing(self, heads: U64Array) -> int:
        """Return of how many of these first bytes there is no name."""
        return int((~np.isin(heads, self._heads)).sum())

    @cached_property
    def _heads(self) -> U64Array:
        """
        The first bytes of each name, without the type before it, as numbers that
        :func:`rows_with_head` compares.
        """
        codes = np.frombuffer(self._data, np.uint8)
        ends = self._ends
        at = behind_length(self._starts, codes[self._starts])
        heads = np.zeros(len(at), np.uint64)
        filled = np.zeros(len(at), np.uint64)
        tokens = [token or b"" for token in self._tokens]
        texts, bits = heads_of([token[1:] for token in tokens])
        following = heads_of(tokens)
        # The first one may be a type and nothing else; no other is empty.
        for _ in range(1 + HEAD_BYTES):
            lacking = (at < ends) & (filled < _HEAD_BITS)
            code = codes[np.minimum(at, len(codes) - 1)]
            heads |= (texts[code] * lacking) << filled
            filled += bits[code]
            texts, bits = following
            at += 1
        return heads


def _starts_one_by_one(data: bytes, count: int) -> Array:
    """Return where each name's length begins, and where the last name ends."""
    starts = array("q")
    at = 0
    for _ in range(count):
        starts.append(at)
        length = data[at]
        # Since Linux kernel commit 73bbb94466fd ("kallsyms: support "big" kernel
        # symbols") (in v6.1), the high bit says that a second byte follows.
        if length & _BIG:
            length = 1 + (length & ~_BIG | data[at + 1] << 7)
        at += 1 + length
    # The last name may end behind what is there.
    if at > len(data):
        raise IndexError
    starts.append(at)
    return np.frombuffer(starts, np.int64)


def _starts_by_markers(data: bytes, count: int, order: str) -> Optional[Array]:
    """
    Find the names, many at once: kallsyms_markers has the start of each 256th.

    :return: Where each name's length begins, and where the last name ends; None if the
        markers do not stand behind the names.
    """
    if count <= NAMES_A_MARKER:
        return None
    second = int(_starts_one_by_one(data, NAMES_A_MARKER)[-1])
    offset = data.find(struct.pack(f"{order}II", 0, second), second)
    lanes = -(-count // NAMES_A_MARKER)
    if not 0 < offset <= len(data) - 4 * lanes:
        return None
    markers = np.frombuffer(data, f"{order}u4", lanes, offset).astype(np.int64)
    if (markers > offset).any():
        return None
    codes = np.frombuffer(data, np.uint8)
    starts = np.empty((lanes, NAMES_A_MARKER), np.int64)
    at = markers
    for step in range(NAMES_A_MARKER):
        starts[:, step] = at
        length = codes[at].astype(np.int64)
        big = length & _BIG
        if big.any():
            high = codes[at + 1].astype(np.int64) << 7
            length = np.where(big, 1 + (length & ~_BIG | high), length)
        # There are no more lengths behind the last name.
        at = np.minimum(at + 1 + length, offset)
    bounds: Array = np.append(starts, at[-1])[: count + 1]
    agree = (at[:-1] == markers[1:]).all()
    return bounds if agree else None
