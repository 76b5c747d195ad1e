# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
ppc64
-----

Its linear mapping, by which vmcores whose MMU is a hash table are read. drgn knows radix
trees only: of a hash table it refuses all addresses but those that a vmcore's program
headers name, and not as an unreadable address, but as something it cannot do.
"""

from drgn import Architecture, FaultError, Program, ProgramFlags

from ..._drgn import follow_phys
from ...model.areas import Problem, ProblemKind
from ..doors import architecture_of

__all__ = (
    "LINEAR_BYTES",
    "LINEAR_START",
    "UNTRANSLATED",
    "has_hash_table",
    "read_linear_only",
)

LINEAR_START = 0xC000000000000000
"""Where the linear mapping begins (PAGE_OFFSET of arch/powerpc)."""

LINEAR_BYTES = 1 << 51
"""More than it has on any machine, and less than up to what lies behind it."""

_WHY = "drgn does not read the hash table of this MMU"

UNTRANSLATED = Problem(
    ProblemKind.UNSUPPORTED,
    "page table",
    f"{_WHY}: what is mapped and what is in modules is unknown",
)
"""What is to be told of such a kernel, by whoever meets it, in the same words."""


def has_hash_table(prog: Program) -> bool:
    """
    Return whether this is a vmcore of ppc64 whose addresses drgn cannot translate. A
    running kernel translates them itself, in /proc/kcore.
    """
    is_ppc64 = architecture_of(prog) == Architecture.PPC64
    if not is_ppc64 or prog.flags & ProgramFlags.IS_LIVE:
        return False
    return _is_refused(prog)


def _is_refused(prog: Program) -> bool:
    try:
        init_mm = prog["init_mm"].address_of_()
        follow_phys(init_mm, init_mm)
    except NotImplementedError:
        return True
    except (FaultError, LookupError):
        pass
    return False


def read_linear_only(prog: Program) -> None:
    """Have all reads end at the linear mapping, or as those of unreadable memory."""

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        if not LINEAR_START <= address < LINEAR_START + LINEAR_BYTES:
            raise FaultError(_WHY, address)
        try:
            return prog.read(address - LINEAR_START, count, physical=True)
        except FaultError as e:
            raise FaultError(_WHY, address) from e

    prog.add_memory_segment(0, (1 << 64) - 1, read)
