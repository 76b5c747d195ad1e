# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The vm_map_ram series
---------------------

What in a kernel's debug info tells of "mm/vmalloc.c: allow vread() to read out
vm_map_ram areas" (v6.3), and the blocks whose bits show that it is at work.
"""

from typing import Optional, Tuple

from drgn import FaultError, Program

from ..model.areas import Problem
from ..model.blocks import Blocks
from ..model.series import SeriesSigns
from .blocks import take_blocks
from .functions import has_function, has_parameter, knows_inlined_calls

__all__ = ("series_signs", "take_blocks_if_any")

# Since Linux kernel commit 06c8994626d1 ("mm/vmalloc.c: allow vread() to read out
# vm_map_ram areas") (in v6.3), and under its later name since commit 4c91c07c93bb
# ("mm: vmalloc: convert vread() to vread_iter()") (in v6.4).
_RAM_READERS = ("vmap_ram_vread_iter", "vmap_ram_vread")


def series_signs(prog: Program) -> SeriesSigns:
    """Look for what the series added to mm/vmalloc.c."""
    return SeriesSigns(
        used_map=_has_used_map(prog),
        # Since Linux kernel commit 869176a09606 ("mm/vmalloc.c: add flags to mark
        # vm_map_ram area") (in v6.3).
        va_flags_parameter=has_parameter(prog, "alloc_vmap_area", "va_flags"),
        ram_reader=_ram_reader(prog),
        inlined_known=knows_inlined_calls(prog),
        architecture=prog.platform.arch.name if prog.platform else "",
    )


def _ram_reader(prog: Program) -> Optional[str]:
    return next((name for name in _RAM_READERS if has_function(prog, name)), None)


def _has_used_map(prog: Program) -> Optional[bool]:
    # Since Linux kernel commit d76f99548cf0 ("mm/vmalloc.c: add used_map into
    # vmap_block to track space of vmap_block") (in v6.3).
    try:
        return prog.type("struct vmap_block").has_member("used_map")
    except LookupError:
        return None


def take_blocks_if_any(prog: Program) -> Tuple[Optional[Blocks], Tuple[Problem, ...]]:
    """
    Read the blocks; types alone tell much, so if they are lost that is no error.

    :return: None if they cannot be read, and what was wrong.
    """
    try:
        blocks = take_blocks(prog)
    except (FaultError, LookupError) as e:
        return None, (Problem("unreadable", "vmap_blocks", str(e)),)
    return blocks, blocks.problems
