# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Core
----

What a vmcore says besides its pages.
"""

from dataclasses import dataclass
from typing import Optional

__all__ = ("CoreHead",)


@dataclass(frozen=True)
class CoreHead:
    """What a vmcore says besides its pages."""

    machine: str
    """The architecture, by drgn's name."""
    is_64_bit: bool
    is_little_endian: bool
    vmcoreinfo: bytes
    page_size: int
    direct_map: int
    """Where the kernel maps physical address 0, as it does the memory behind it."""
    direct_end: Optional[int] = None
    """The physical address up to which that is known to be so; None if of all."""
