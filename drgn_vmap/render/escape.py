# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Escaping
--------

Text that a target controls must not control the terminal it is shown on.
"""

__all__ = ("printable",)


def printable(text: str) -> str:
    """Return text with everything that is no printable character escaped."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
