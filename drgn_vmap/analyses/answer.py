# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Answers
-------

What is said of a single patch of the vm_map_ram series, and on what grounds.
"""

from dataclasses import dataclass, replace
from typing import Tuple

from ..model.series import PatchVerdict, Strength

__all__ = ("Answer",)


@dataclass(frozen=True)
class Answer:
    """Whether a patch is there, how sure that is, and what was looked at."""

    verdict: PatchVerdict
    strength: Strength
    evidence: Tuple[str, ...]

    @property
    def is_yes(self) -> bool:
        """Whether the patch is there."""
        return self.verdict == PatchVerdict.YES

    def with_evidence(self, *lines: str) -> "Answer":
        """Return the same answer with more evidence."""
        return replace(self, evidence=(*self.evidence, *lines))

    def as_sure_as(self, other: "Answer") -> "Answer":
        """Return the same answer with another one's strength."""
        return replace(self, strength=other.strength)
