# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Targets
-------

What the program is that drgn opened.
"""

from drgn import Architecture, FaultError, Program, ProgramFlags
from drgn.helpers.linux.mm import follow_phys

from ..errors import TargetError
from .ppc64 import has_hash_table, read_linear_only

__all__ = ("check_dump", "is_this_machine", "mending")


def is_this_machine(prog: Program) -> bool:
    """Return whether the program is the running kernel of this very machine."""
    wanted = ProgramFlags.IS_LINUX_KERNEL | ProgramFlags.IS_LIVE | ProgramFlags.IS_LOCAL
    return prog.flags & wanted == wanted


def check_dump(prog: Program) -> None:
    """
    See that addresses of a vmcore can be translated, where QEMU's dumps need mending.

    :raises TargetError: if they cannot.
    """
    if not mending(prog):
        return
    if has_hash_table(prog):
        read_linear_only(prog)
        return
    try:
        init_mm = prog["init_mm"].address_of_()
    except LookupError:
        return
    try:
        follow_phys(init_mm, init_mm)
    except FaultError as e:
        if e.address != init_mm.value_():
            raise TargetError(
                f"no address in this vmcore can be translated ({e}): {mending(prog)}"
            ) from e


def mending(prog: Program) -> str:
    """Return what to do about a dump that QEMU wrote, if there is anything to do."""
    if prog.flags & ProgramFlags.IS_LIVE or prog.platform is None:
        return ""
    if prog.platform.arch not in (Architecture.PPC64, Architecture.S390X):
        return ""
    return "if QEMU wrote it, mend it with contrib/mend_qemu_core.py"
