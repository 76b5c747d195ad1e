# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vmcores of guests, and what was true when they were made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .kernel import Kernel

__all__ = (
    "CANARY",
    "CountedPages",
    "KDUMP_KERNEL",
    "KdumpVmcore",
    "VMCORE_FORMATS",
    "Vmcore",
    "count_canaries",
)

KDUMP_KERNEL = "6.1"
VMCORE_FORMATS = ("elf", "kdump-zlib")
"""Of those that QEMU writes, as it calls them."""
CANARY = b"cAnArY7+" * 5
"""
What is looked for where it must not be. It repeats itself after so many bytes as vmap slice
keeps at least, so that none of it gets away.
"""


@dataclass(frozen=True)
class Vmcore:
    """A vmcore, and what was true when it was made."""

    path: Path
    kernel: Kernel
    vmallocinfo: bytes
    """What /proc/vmallocinfo held."""

    truth: bytes
    """What the fixture module's /proc/vmap_lab held."""


@dataclass(frozen=True)
class KdumpVmcore(Vmcore):
    """A vmcore that a crash kernel saved."""

    console: str
    """What the guest's console showed, makedumpfile's report at the end of it."""


@dataclass(frozen=True)
class CountedPages:
    """A vmcore, and how the pages were counted in the running guest just before."""

    path: Path
    kernel: Kernel
    answer: dict[str, Any]
    """What ``inside/count_pages.py`` printed."""


def count_canaries(data: bytes) -> int:
    """Return how often there are any eight bytes in a row of a canary."""
    return sum(data.count(CANARY[at : at + 8]) for at in range(8))
