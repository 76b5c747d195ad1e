# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Series
------

Whether the vm_map_ram series is in a kernel.
"""

import enum
from dataclasses import dataclass
from typing import Optional, Tuple

__all__ = (
    "SeriesSigns",
    "PatchVerdict",
    "Strength",
    "Patch",
    "SeriesVerdict",
    "Finding",
    "Verification",
)


@dataclass(frozen=True)
class SeriesSigns:
    """What in a kernel's types and functions tells of the vm_map_ram series."""

    used_map: Optional[bool]
    """struct vmap_block has the member used_map (patch 1); None if it is not known."""
    va_flags_parameter: bool
    """alloc_vmap_area() takes the flags of the area (patch 2)."""
    ram_reader: Optional[str]
    """The function that reads vm_map_ram() memory for /proc/kcore (patch 3)."""
    architecture: str
    """drgn's name for it, such as ``X86_64``; empty if nothing tells."""
    inlined_known: bool = True
    """Whether the reader would have been seen if it was inlined."""
    mixes_up_blocks: bool = False
    """Each kernel known with this reader returns the wrong page of blocks."""


class PatchVerdict(enum.Enum):
    """Whether a patch is in a kernel."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not-applicable"


class Strength(enum.Enum):
    """How much evidence proves."""

    CERTAIN = "certain"
    STRONG = "strong"
    WEAK = "weak"


@dataclass(frozen=True)
class Patch:
    """One patch of the vm_map_ram series, and whether a kernel has it."""

    number: int
    title: str
    commit: str
    """In mainline."""
    verdict: PatchVerdict
    strength: Strength
    evidence: Tuple[str, ...]
    """What was looked at, and what was found."""


class SeriesVerdict(enum.Enum):
    """Whether a kernel has the vm_map_ram series."""

    FIXED = "fixed"
    NOT_FIXED = "not-fixed"
    PARTIAL = "partial"
    UNKNOWN = "unknown"
    """A saved text does not tell."""


@dataclass(frozen=True)
class Finding:
    """Something wrong beside what a verdict says."""

    id: str
    text: str
    verdict: PatchVerdict = PatchVerdict.YES
    """Whether it was seen; unknown if the code alone says so."""


@dataclass(frozen=True)
class Verification:
    """Whether the vm_map_ram series is in a kernel, patch by patch."""

    patches: Tuple[Patch, ...]
    verdict: SeriesVerdict
    findings: Tuple[Finding, ...] = ()
