# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a person calls a place: an address, a range as ``ls`` prints it, or a symbol.
"""

import re
from typing import TYPE_CHECKING, NamedTuple, Optional

from ..errors import UsageError
from ..model.tags import Tags

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("Place", "find_place")

_ADDRESS = re.compile(r"(?:(phys|page):)?((?:0x)?[0-9a-f]+)", re.I)
_RANGE = re.compile(r"((?:0x)?[0-9a-f]+)-((?:0x)?[0-9a-f]+)", re.I)
_SYMBOL = re.compile(
    r"([A-Za-z_.$][\w.$]*)(?:\+(?:0x([0-9a-f]{1,16})|([0-9]{1,19})))?", re.I
)


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
    place = _spelt(text, target.memory.tags)
    if place is None:
        named = _SYMBOL.fullmatch(text)
        address = target.symbol_address(named[1]) if named else None
        if named is not None and address is not None:
            offset = int(named[2], 16) if named[2] else int(named[3] or "0")
            place = _virtual((address + offset) % (1 << 64))
    if place is None:
        raise UsageError(
            f"{text!r} is no address and no symbol that is known: give ADDR, START-END, "
            "phys:ADDR or page:ADDR in hexadecimal, or NAME[+OFFSET]"
        )
    return place


def _spelt(text: str, tags: Tags) -> Optional[Place]:
    found = _ADDRESS.fullmatch(text)
    if found and int(found[2], 16) < 1 << 64:
        address = int(found[2], 16)
        if found[1]:
            return Place(text, address, found[1].lower())
        return _virtual(tags.off(address))
    both = _RANGE.fullmatch(text)
    if both:
        start, end = (tags.off(int(digits, 16)) for digits in both.groups())
        if start < end <= 1 << 64:
            return _virtual(start, end - start)
    return None


def _virtual(address: int, size: Optional[int] = None) -> Place:
    return Place(f"{address:#x}", address, size=size)
