# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Colour
------

For terminals: red is what failed, yellow what warns. No text needs it to be understood.
"""

import re

__all__ = ("coloured",)

_RED = re.compile(
    # A check of fsck, a patch of verify, its verdict, what check found by kind.
    r"^(?:failed\b|\d  no\b|verdict (?:not-fixed|partial)"
    r"|(?:vmalloc|vm_map_ram|vmap_block) +(?:wrong|zero)\b)",
    re.MULTILINE,
)
_YELLOW = re.compile(
    r"^(?:explainable\b|finding \S+|warning(?! +none$)|left out: .*)", re.MULTILINE
)


def coloured(text: str) -> str:
    """Return text with colour for the words that say that something is wrong."""
    return _YELLOW.sub("\033[33m\\g<0>\033[0m", _RED.sub("\033[31m\\g<0>\033[0m", text))
