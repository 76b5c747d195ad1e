# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Reading through /proc/kcore
---------------------------

By which rules this kernel's /proc/kcore reads vmalloc space: vread(), and since 6.4
vread_iter(), of mm/vmalloc.c.
"""

from typing import Optional

from drgn import Architecture

from ...model.kcore import KcoreRules
from ..doors import architecture_of
from ..target import Target
from ..types.structs import has_member

__all__ = ("kcore_rules", "knows_ram_reader", "ram_reader")

# Since Linux kernel commit 06c8994626d1 ("mm/vmalloc.c: allow vread() to read out
# vm_map_ram areas") (in v6.3), and under its later name since commit 4c91c07c93bb
# ("mm: vmalloc: convert vread() to vread_iter()") (in v6.4).
_RAM_READERS = ("vmap_ram_vread_iter", "vmap_ram_vread")


def ram_reader(target: Target) -> Optional[str]:
    """Return the function that reads what has no vm_struct, or None."""
    return next(filter(target.functions.has, _RAM_READERS), None)


def knows_ram_reader(target: Target) -> bool:
    """Return whether that reader would have been seen, also if it was inlined."""
    return any(map(target.functions.knows, _RAM_READERS))


def kcore_rules(target: Target) -> KcoreRules:
    """Find out what this kernel's reader is able to."""
    functions = target.functions
    # Since Linux kernel commit 4c91c07c93bb ("mm: vmalloc: convert vread() to
    # vread_iter()") (in v6.4), holes are filled with zeros.
    iterates = functions.has("vread_iter")
    reads_ram = ram_reader(target) is not None
    if not reads_ram and not knows_ram_reader(target):
        # A member that came in the same series, for this reader alone, in commit
        # d76f99548cf0 ("mm/vmalloc.c: add used_map into vmap_block to track space of
        # vmap_block") (in v6.3).
        reads_ram = has_member(target.prog, "struct vmap_block", "used_map")
    # Its reader of blocks copies from the first used run on, wherever the read begins.
    # No kernel that was read here does better, and nothing but reading would show one.
    return KcoreRules(
        reads_ram=reads_ram,
        zeroes_holes=iterates,
        mixes_up_blocks=reads_ram,
        readable_from=_readable_from(target),
    )


def _readable_from(target: Target) -> int:
    """
    Return the address at offset 0 of the file (kc_vaddr_to_offset() of fs/proc/kcore.c):
    of riscv that is PAGE_OFFSET, which lies behind its vmalloc space.
    """
    if architecture_of(target.prog) != Architecture.RISCV64:
        return 0
    return target.vmcoreinfo.numbers.get("PAGE_OFFSET", 0)
