# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Output that a page shows, beside that of another boot."""

from __future__ import annotations

import re

from tests.pages import ELIDED, Shown

__all__ = ("expect_lines",)

#: What is another on each boot, and the letter that stands for it.
VARIABLE = (
    (r"\S+\+0x\w+/0x\w+( \[\w+\])?", "C"),
    (r"\b(vmalloc|vmap|ioremap|user|vm_map_ram|vmap_block|nr_vmalloc_pages)\b", "K"),
    (r"[#!x.]{10,}", "M"),
    (r"\bN\d+=\d+", "N"),
    (r"-?\b(0x[0-9a-f]+|\d[\d.]*)%?", "#"),
    (r"\b([KMGT]iB|B)\b", "U"),
    (r"next to it|after # U", "W"),
    (r"(K )+K", "K"),
    (r"\s+", " "),
    # A neighbour is told by its caller, or by its kind if vm_map_ram() made it.
    (r"^ ?(below|above) (.*) [CK]$", r"\1 \2 C"),
)


def shape(line: str) -> str:
    """Return a line without what is another on each boot."""
    for pattern, letter in VARIABLE:
        line = re.sub(pattern, letter, line)
    return line.strip()


def expect_lines(shown: Shown, text: str) -> None:
    """Expect each shown line to have the shape of a line that was printed."""
    printed = {shape(line) for line in text.splitlines()}
    for line in shown.lines:
        elided = line.startswith(ELIDED)
        assert elided or shape(line) in printed, (shown, line, printed)
