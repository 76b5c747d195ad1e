# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Sizes
-----

Bytes in units that a person reads at a glance, and numbers of things.
"""

__all__ = ("counted", "size_text")

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size_text(size: int) -> str:
    """Return a size such as ``20.5 MiB``, or ``512 B``."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in _UNITS:
        value /= 1024
        if value < 1023.95:
            break
    return f"{value:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """Return how many there are of something, such as ``1 area`` or ``2 areas``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
