# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The vm_map_ram series
---------------------

What in a kernel's debug info tells of "mm/vmalloc.c: allow vread() to read out
vm_map_ram areas" (v6.3), and the blocks whose bits show that it is at work.
"""

from typing import Optional, Tuple

from ...errors import Fault, SymbolsError
from ...model.areas import Problem, ProblemKind
from ...model.blocks import Blocks
from ...model.series import SeriesSigns
from ..doors import architecture_of
from ..target import Target
from ..types.structs import find_type
from .blocks import take_blocks
from .vread import kcore_rules, knows_ram_reader, ram_reader

__all__ = ("series_signs", "take_blocks_if_any")


def series_signs(target: Target) -> SeriesSigns:
    """Look for what the series added to mm/vmalloc.c."""
    architecture = architecture_of(target.prog)
    return SeriesSigns(
        used_map=_has_used_map(target),
        # Since Linux kernel commit 869176a09606 ("mm/vmalloc.c: add flags to mark
        # vm_map_ram area") (in v6.3).
        va_flags_parameter=target.functions.has_parameter(
            "alloc_vmap_area", "va_flags"
        ),
        ram_reader=ram_reader(target),
        inlined_known=knows_ram_reader(target),
        architecture=architecture.name if architecture else "",
        mixes_up_blocks=kcore_rules(target).mixes_up_blocks,
    )


def _has_used_map(target: Target) -> Optional[bool]:
    # Since Linux kernel commit d76f99548cf0 ("mm/vmalloc.c: add used_map into
    # vmap_block to track space of vmap_block") (in v6.3).
    block = find_type(target.prog, "struct vmap_block")
    return None if block is None else block.has_member("used_map")


def take_blocks_if_any(
    target: Target,
) -> Tuple[Optional[Blocks], Tuple[Problem, ...]]:
    """
    Read the blocks; types alone tell much, so if they are lost that is no error.

    :return: None if they cannot be read, and what was wrong.
    """
    try:
        blocks = take_blocks(target)
    except Fault as e:
        return None, (Problem(ProblemKind.UNREADABLE, "vmap_blocks", e.why),)
    except SymbolsError as e:
        return None, (Problem(ProblemKind.UNREADABLE, "vmap_blocks", str(e)),)
    return blocks, blocks.problems
