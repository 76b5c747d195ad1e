# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Targets
-------

What the program is that drgn opened.
"""

from drgn import Program, ProgramFlags

__all__ = ("is_this_machine",)


def is_this_machine(prog: Program) -> bool:
    """Return whether the program is the running kernel of this very machine."""
    wanted = ProgramFlags.IS_LINUX_KERNEL | ProgramFlags.IS_LIVE | ProgramFlags.IS_LOCAL
    return prog.flags & wanted == wanted
