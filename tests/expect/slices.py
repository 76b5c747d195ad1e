# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a slice of a vmcore holds, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile

from tests.lab.truth import MAGIC

from .places import PAGE

__all__ = ("expect_answers", "fills", "frames")


def expect_answers(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Hold each answer against the one that is expected, to the byte."""
    assert list(found) == list(expected)
    for question in expected:
        assert found[question] == expected[question], question


def frames(path: Path) -> set[int]:
    """Return the page frames of which a vmcore has anything."""
    found: set[int] = set()
    with path.open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_LOAD"):
            assert segment["p_filesz"] == segment["p_memsz"]
            end = segment["p_paddr"] + segment["p_memsz"]
            found.update(range(segment["p_paddr"] // PAGE, -(-end // PAGE)))
    return found


def fills(data: bytes) -> list[int]:
    """Return where there are two words in a row that the fixture module writes."""
    words = np.frombuffer(data, "<u8", len(data) // 8)
    marked = words[:-1] >> np.uint64(56) == MAGIC
    return np.flatnonzero(marked & (words[1:] == words[:-1] + np.uint64(1))).tolist()
