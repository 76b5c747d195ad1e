# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Names
-----

Names of the symbols that a kernel carries (kernel/kallsyms.c), each with its type
before it, as in nm(1). The kernel keeps them compressed: there are a hundred thousand,
and few are ever asked for, so only a search by name unpacks them all.
"""

from functools import cached_property
from typing import List, Sequence

from .._numpy import Array, np

__all__ = ("PackedNames", "PlainNames")


class PlainNames:
    """
    Names that are a text.

    :param text: A line for each, with a newline at both ends.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __len__(self) -> int:
        return len(self.lines)

    @cached_property
    def lines(self) -> Array:
        """Where each line begins."""
        newlines = np.flatnonzero(np.frombuffer(self.text, np.uint8) == ord("\n"))
        return newlines[:-1] + 1

    def line(self, index: int) -> bytes:
        """Return the type and the name of a symbol."""
        start = int(self.lines[index])
        return self.text[start : self.text.index(b"\n", start)]

    def indices(self, name: bytes) -> List[int]:
        """Return which symbols have a name."""
        wanted = name + b"\n"
        found = []
        at = self.text.find(wanted)
        while at > 0:
            # Before a name there is its type, and a newline before that.
            if self.text[at - 2 : at - 1] == b"\n":
                found.append(at - 1)
            at = self.text.find(wanted, at + 1)
        indices: List[int] = np.searchsorted(self.lines, found).tolist()
        return indices


class PackedNames:
    """
    Names as the kernel keeps them.

    :param data: kallsyms_names.
    :param count: How many there are.
    :param tokens: The text that each byte of a name stands for.
    :raises IndexError: if there are fewer.
    """

    def __init__(self, data: bytes, count: int, tokens: Sequence[bytes]) -> None:
        self._data = data
        self._tokens = tokens
        starts: List[int] = []
        big: List[int] = []
        at = 0
        for _ in range(count):
            starts.append(at)
            length = data[at]
            # Since Linux kernel commit 73bbb94466fd ("kallsyms: support "big" kernel
            # symbols") (in v6.1), the high bit says that a second byte follows.
            if length & 0x80:
                big.append(at + 1)
                length = 1 + (length & 0x7F | data[at + 1] << 7)
            at += 1 + length
        # The last name may end behind what is there.
        if at > len(data):
            raise IndexError
        self._starts, self._big, self._end = starts, big, at

    def __len__(self) -> int:
        return len(self._starts)

    def line(self, index: int) -> bytes:
        """Return the type and the name of a symbol."""
        at = self._starts[index]
        length = self._data[at]
        if length & 0x80:
            at += 1
            length = length & 0x7F | self._data[at] << 7
        packed = self._data[at + 1 : at + 1 + length]
        return b"".join([self._tokens[byte] for byte in packed])

    def indices(self, name: bytes) -> List[int]:
        """Return which symbols have a name."""
        return self._plain.indices(name)

    @cached_property
    def _plain(self) -> PlainNames:
        codes = np.frombuffer(self._data, np.uint8, self._end).astype(np.int16)
        # Tokens of our own stand in the place of lengths.
        newline, nothing = len(self._tokens), len(self._tokens) + 1
        codes[self._starts] = newline
        codes[self._big] = nothing
        texts = [*self._tokens, b"\n", b""]
        return PlainNames(_unpack(np.append(codes, newline), texts))


def _unpack(codes: Array, texts: Sequence[bytes]) -> bytes:
    """Put texts in the place of codes."""
    lengths = np.array([len(text) for text in texts], np.int32)
    begins = np.cumsum(lengths, dtype=np.int32) - lengths
    all_texts = np.frombuffer(b"".join(texts), np.uint8)
    size = lengths[codes]
    at = np.cumsum(size, dtype=np.int32) - size
    source = np.repeat(begins[codes] - at, size)
    source += np.arange(len(source), dtype=np.int32)
    return all_texts[source].tobytes()
