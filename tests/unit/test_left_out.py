# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What makedumpfile left out of an ELF vmcore is told from pages of zeros by what pages are
used for; tests/lab/test_dumps.py has it do so to real ones.
"""

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from drgn_vmap.errors import TargetError
from drgn_vmap.kernel.memory.left_out import LeftOut
from drgn_vmap.model.mem_usage import PageClass
from tests.fakes.elf_core import Segment, elf_headers

PAGE = 4096
#: Where a segment begins, and the pages that it has bytes of, and that it is said to have.
SEGMENTS = [(16, 2, 5), (21, 1, 1), (30, 0, 2)]
LACKING = [18, 19, 20, 30, 31]
THERE = [16, 17, 21]
NOWHERE = [15, 22, 29, 32]


def write_core(path: Path, segments: List[Tuple[int, int, int]]) -> Path:
    """Write an ELF core."""
    offset, loads = PAGE, []
    for first, there, said in segments:
        loads.append(Segment(offset, 0, first * PAGE, there * PAGE, said * PAGE))
        offset += there * PAGE
    path.write_bytes(elf_headers(loads).ljust(offset, b"\0"))
    return path


class Classifier:
    """Knows what pages are used for by their frames."""

    used: "dict[int, PageClass]" = {18: PageClass.USER, 30: PageClass.UNKNOWN}

    def used_for(self, frames: Any) -> Any:
        return np.array(
            [self.used.get(frame, PageClass.KERN_DATA) for frame in frames.tolist()]
        )


def left_out(path: Path, classifier: Any) -> List[int]:
    """Return the frames of which that is said, of all that are tried."""
    frames = np.array(sorted([*LACKING, *THERE, *NOWHERE]), np.uint64)
    among = LeftOut([str(path)], PAGE, classifier).among(frames * np.uint64(PAGE))
    found: List[int] = frames[among].tolist()
    return found


def test_by_use(tmp_path: Path) -> None:
    """What the kernel uses was zeros; what it does not, or may not, use may have been more."""
    path = write_core(tmp_path / "core", SEGMENTS)
    assert left_out(path, Classifier) == [18, 30]


def test_made_once(tmp_path: Path) -> None:
    """What tells of pages is made when first asked for, and once, not for each piece."""
    made: List[Classifier] = []

    def classifier() -> Any:
        made.append(Classifier())
        return made[-1]

    path = write_core(tmp_path / "core", SEGMENTS)
    found = LeftOut([str(path)], PAGE, classifier)
    for frames, times in ((THERE, 0), (LACKING, 1), (LACKING, 1)):
        found.among(np.array(frames, np.uint64) * np.uint64(PAGE))
        assert len(made) == times


def test_unknown_use(tmp_path: Path) -> None:
    """Where nothing tells what pages are used for, any may have been left out."""

    def unknown() -> Any:
        raise TargetError("VMCOREINFO lacks something: take another one")

    assert left_out(write_core(tmp_path / "core", SEGMENTS), unknown) == LACKING


@pytest.mark.parametrize("contents", [b"", b"KDUMP   ", b"\x7fELF"])
def test_no_elf(tmp_path: Path, contents: bytes) -> None:
    """Of other files drgn reads what is there, or nothing."""
    path = tmp_path / "file"
    path.write_bytes(contents)
    assert left_out(path, Classifier) == []
