# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Saved
-----

Areas from files, and what differs between two of them.
"""

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from .areas import Area, Problem, Snapshot

__all__ = (
    "SavedAreas",
    "SavedText",
    "CallerChange",
    "Difference",
)


@dataclass(frozen=True)
class SavedAreas:
    """Areas that were read from a file."""

    name: str
    """Of the file."""
    kernel: Optional[Mapping[str, object]]
    """What ``ls --json`` says of the kernel; None if the file does not tell."""
    areas: Tuple[Area, ...]
    pointers: str = "raw"
    """What its addresses are, as of :class:`SavedText`."""
    problems: Tuple[Problem, ...] = ()
    """What could not be read."""


@dataclass(frozen=True)
class SavedText:
    """A copy of /proc/vmallocinfo."""

    name: str
    """Of the file."""
    snapshot: Snapshot
    """What it tells, a row of areas a line. The kernel is but an empty shell. Of a
    hashed address the hash stands for the start, and the end is as far behind it as
    the size says."""
    lines: Tuple[str, ...]
    """The lines that were understood."""
    pointers: str
    """What its addresses are: ``raw``, ``hashed``, or ``none``."""


@dataclass(frozen=True)
class CallerChange:
    """How much more a caller holds than before; negative if it is less."""

    caller: str
    areas: int
    bytes: int
    pages: int


@dataclass(frozen=True)
class Difference:
    """What changed among the busy areas between two moments."""

    common: int
    """Areas that are in both, grown or not."""
    added: Tuple[Area, ...]
    """The largest first, as in the following."""
    removed: Tuple[Area, ...]
    grown: Tuple[Tuple[Area, Area], ...]
    """Before and after: same start and caller, other size or number of pages."""
    by_caller: Tuple[CallerChange, ...]
    """Callers that hold more or less than before, the largest growth first."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.grown)
