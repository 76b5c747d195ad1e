# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Escaping
--------

Text that a target controls must not control the terminal it is shown on, nor fill a report.
"""

__all__ = ("bounded", "printable")

_LONGEST = 512
"""The kernel's longest name of a function is as long; no sentence of a report is."""


def bounded(text: str) -> str:
    """Return printable text, cut off where it is longer than what a report has to say."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} characters)"
    return printable(text)


def printable(text: str) -> str:
    """Return text with everything that is no printable character escaped."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
