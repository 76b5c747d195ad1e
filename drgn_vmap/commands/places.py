# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a person calls a place: an address, a range as ``ls`` prints it, or a symbol.
"""

import re
from typing import TYPE_CHECKING, NamedTuple, Optional

from ..errors import UsageError

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("Place", "find_place")

_ADDRESS = re.compile(r"(?:(phys|page):)?((?:0x)?[0-9a-f]+)", re.I)
_RANGE = re.compile(r"((?:0x)?[0-9a-f]+)-((?:0x)?[0-9a-f]+)", re.I)
_SYMBOL = re.compile(r"([A-Za-z_.$][\w.$]*)(?:\+(0x[0-9a-f]+|[0-9]+))?", re.I)


class Place(NamedTuple):
    """Where something is asked about."""

    text: str
    """As it was typed if it is physical, else the address."""
    address: int
    kind: str = ""
    """``phys`` of a physical address, ``page`` of that of a struct page, else empty."""
    size: Optional[int] = None
    """Bytes of a range, None of an address."""


def find_place(target: "Target", text: str) -> Place:
    """
    Return what a text means; what digits can spell is an address.

    :raises UsageError: if it is none of these, or if no symbol has that name.
    """
    place = _spelt(text)
    if place is None:
        named = _SYMBOL.fullmatch(text)
        address = target.symbol_address(named[1]) if named else None
        if named is not None and address is not None:
            place = _virtual((address + int(named[2] or "0", 0)) % (1 << 64))
    if place is None:
        raise UsageError(
            f"{text!r} is no address and no symbol that is known: give ADDR, START-END, "
            "phys:ADDR or page:ADDR in hexadecimal, or NAME[+OFFSET]"
        )
    return place


def _spelt(text: str) -> Optional[Place]:
    found = _ADDRESS.fullmatch(text)
    if found and int(found[2], 16) < 1 << 64:
        address = int(found[2], 16)
        return Place(text, address, found[1].lower()) if found[1] else _virtual(address)
    both = _RANGE.fullmatch(text)
    if both and int(both[1], 16) < int(both[2], 16) <= 1 << 64:
        return _virtual(int(both[1], 16), int(both[2], 16) - int(both[1], 16))
    return None


def _virtual(address: int, size: Optional[int] = None) -> Place:
    return Place(f"{address:#x}", address, size=size)
