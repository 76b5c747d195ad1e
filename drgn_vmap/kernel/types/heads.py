# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Heads
-----

The first bytes of names, by which a few are found among a hundred thousand.
"""

from typing import Any, List, Sequence, Tuple

from ..._numpy import Array, U64Array, np

__all__ = (
    "HEAD_BYTES",
    "LOST",
    "NAMES_A_MARKER",
    "TOKENS",
    "behind_length",
    "head_of",
    "heads_of",
    "rows_with_head",
)

HEAD_BYTES = 8
"""How many of the first bytes of a name are compared with those of all others."""
LOST = -1
"""Stands for where a packed name is that is lost."""
NAMES_A_MARKER = 256
"""In kallsyms_markers (scripts/kallsyms.c)."""
TOKENS = 256
"""Texts that a byte of a packed name may stand for."""


def head_of(text: bytes) -> int:
    """Return the first bytes of a text as a little-endian number."""
    return int.from_bytes(text[:HEAD_BYTES], "little")


def rows_with_head(heads: U64Array, name: bytes) -> List[int]:
    """
    Return the indices of names whose first bytes are those of ``name``: they are few, and
    only these have to be looked at as a whole.

    :param heads: The first bytes of each name as a little-endian number; 0 stands behind
        a shorter one.
    """
    mask = head_of(b"\xff" * (len(name) + 1))
    same: Array = heads & np.uint64(mask) == np.uint64(head_of(name))
    rows: List[int] = np.flatnonzero(same).tolist()
    return rows


def heads_of(texts: Sequence[bytes]) -> Tuple[U64Array, U64Array]:
    """Return the first bytes of each text as a number, and how many bits these are."""
    bits = np.array([8 * len(text[:HEAD_BYTES]) for text in texts], np.uint64)
    return np.array([head_of(text) for text in texts], np.uint64), bits


def behind_length(at: Any, length: Any) -> Any:
    """
    Return where a name begins behind its length, which has one byte or two.

    :param at: Where the length begins; of many names, an array.
    :param length: Its first byte.
    """
    return at + 1 + (length >> 7)
