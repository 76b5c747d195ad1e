# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Pointers
--------

Addresses as %pK of lib/vsprintf.c prints them: hashed, real or as zeros.
"""

from functools import partial
from typing import Callable, List, Optional

from .._numpy import U64Array
from ..model.areas import PointerPolicy

__all__ = ("MODES", "PointerFormat", "pointer_format")

MODES = ("raw", "auto", "hashed", "zero")

PointerFormat = Callable[[U64Array], List[str]]
"""Gives the digits of each address, without the 0x before them."""


def pointer_format(
    mode: str, word_size: int, policy: Optional[PointerPolicy]
) -> PointerFormat:
    """
    Return how addresses are to be printed.

    :param mode: ``raw``; ``zero``; ``hashed`` with the kernel's own key; or
        ``auto``, what this kernel would print to root.
    :param policy: Needed for ``hashed`` and ``auto``.
    """
    width = 2 * word_size
    if policy is not None and mode == "auto":
        mode = _mode_of(policy)
    if policy is None or mode in ("raw", "zero"):
        return partial(_raw if mode == "raw" else _zero, width=width)
    if policy.key is None:
        return partial(_unhashable, width=width)
    return partial(_hashed, width=width, key=policy.key)


def _mode_of(policy: PointerPolicy) -> str:
    if policy.kptr_restrict == 0:
        return "hashed" if policy.hash_pointers else "raw"
    return "raw" if policy.kptr_restrict == 1 else "zero"


def _raw(addresses: U64Array, width: int) -> List[str]:
    size = width // 2
    return addresses.astype(f">u{size}").tobytes().hex(" ", size).split()


def _zero(addresses: U64Array, width: int) -> List[str]:
    return ["0" * width] * len(addresses)


def _unhashable(addresses: U64Array, width: int) -> List[str]:
    """What stands there before ptr_key is drawn."""
    return ["(____ptrval____)" if width == 16 else "(ptrval)"] * len(addresses)


def _hashed(addresses: U64Array, width: int, key: bytes) -> List[str]:
    hashed = partial(_hash, word_size=width // 2, key=key)
    return [f"{hashed(address):0{width}x}" for address in addresses.tolist()]


def _hash(address: int, word_size: int, key: bytes) -> int:
    """Return the low 32 bits of siphash_1u64() or siphash_1u32() of an address."""
    # Not at the top of the file: raw addresses are printed without it.
    from siphash24 import siphash24

    digest: int = siphash24(address.to_bytes(word_size, "little"), key=key).intdigest()
    return digest & 0xFFFFFFFF
