# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Contents
--------

What memory holds, piece by piece.
"""

from dataclasses import dataclass
from typing import Optional

__all__ = ("Piece",)


@dataclass(frozen=True)
class Piece:
    """Bytes that lie together, or a hole."""

    start: int
    """Its address."""
    size: int
    data: Optional[bytes]
    """None if there are none."""
    missing: str = ""
    """Why there are none."""
    is_failure: bool = False
    """Whether there should be some, but they cannot be read."""

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + self.size
