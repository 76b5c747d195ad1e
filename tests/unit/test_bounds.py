# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Bounds: what a target claims makes no verb walk, read or allocate in proportion.

The fake kernel's page table maps three pages of its own and nothing else; areas claim
whatever a test has them claim.
"""

import json
import time
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, Dict, List

import pytest

from drgn_vmap._numpy import np
from drgn_vmap.commands import run
from drgn_vmap.kernel.memory.budget import affordable
from drgn_vmap.kernel.memory.numa import NodeFinder
from drgn_vmap.kernel.target import Target
from tests.fakes.kernel import PAGE
from tests.fakes.series import SeriesKernel

TOP = (1 << 64) - PAGE
SECONDS = 10.0


def ranges(*pairs: int) -> Any:
    return np.array(pairs, np.uint64)


def test_no_walk_over_what_is_not_mapped() -> None:
    """Of all addresses that there are, those are left that a table is there for."""
    table = Target(SeriesKernel().program()).page_table
    started = time.process_time()
    starts, ends, problems = table.mapped_parts(ranges(0), ranges(TOP))
    assert time.process_time() - started < SECONDS
    assert problems == ()
    # What VMCOREINFO says that swapper_pg_dir is at, in one entry of 2 MiB.
    assert list(zip(starts.tolist(), ends.tolist())) == [
        (0xFFFFFFFF82000000, 0xFFFFFFFF82200000)
    ]


def test_parts_are_cut_to_their_ranges() -> None:
    """Two ranges within one entry stay two, and end where they ended."""
    table = Target(SeriesKernel().program()).page_table
    base = 0xFFFFFFFF82000000
    starts, ends, _ = table.mapped_parts(
        ranges(base - PAGE, base + 8 * PAGE), ranges(base + PAGE, base + 9 * PAGE)
    )
    assert starts.tolist() == [base, base + 8 * PAGE]
    assert ends.tolist() == [base + PAGE, base + 9 * PAGE]


@pytest.mark.parametrize(
    "counts, most, expected",
    [
        ([3, 4], 7, [True, True]),
        ([4, 3], 6, [False, True]),
        ([1 << 63, 5, 1 << 63], 10, [False, True, False]),
        ([(1 << 64) - 1] * 60 + [1], 1, [False] * 60 + [True]),
        ([], 5, []),
    ],
)
def test_claims_within_a_budget(
    counts: List[int], most: int, expected: List[bool]
) -> None:
    """The largest claims are given up first, and no sum of them wraps around."""
    assert affordable(np.array(counts, np.uint64), most).tolist() == expected


class Finder(NodeFinder):
    """Finds all pages on node 1, of arrays of pages that end somewhere in memory."""

    def __init__(self, end: int) -> None:
        self._memory: Any = self
        self._possible = (0, 1)
        self._word = np.dtype("<u8")
        self.end = end
        self.looks: List[int] = []

    def records(self, addresses: Any, dtype: Any) -> Any:
        self.looks.append(len(addresses))
        return np.zeros(len(addresses), dtype), addresses < np.uint64(self.end)

    def forget(self) -> None:
        pass

    def nodes_of(self, pages: Any) -> Any:
        return np.ones(len(pages), np.int64)


def test_an_area_of_very_many_pages() -> None:
    """One claim is counted in parts, and given up where its array is not there."""
    many = 1 << 20
    finder = Finder(PAGE + 8 * (many + 1))
    counts, whole = finder.count(
        ranges(PAGE, PAGE, PAGE), ranges(3, many, 1 << 30), ranges(1, 1, 1), (0, 1)
    )
    assert counts[:2].tolist() == [[0, 3], [0, many]]
    assert whole.tolist() == [True, True, False]
    assert max(finder.looks) <= many // 8
    assert sum(finder.looks) < 3 * many


def asked(kernel: SeriesKernel, *words: str) -> Dict[str, Any]:
    output = StringIO()
    started = time.process_time()
    with redirect_stdout(output):
        assert run(words[0], kernel.program(), words[1:]) in (0, 1)
    assert time.process_time() - started < SECONDS
    found: Dict[str, Any] = json.loads(output.getvalue())
    return found


@pytest.mark.parametrize("member", ["va_start", "va_end"])
def test_an_area_of_all_addresses(member: str) -> None:
    """One absurd end of an area costs no time, and the others are still there."""
    kernel = SeriesKernel()
    area = kernel.areas[0 if member == "va_start" else -1]
    kernel.memory[kernel.word(area, member)] = PAGE if member == "va_start" else TOP
    listed = asked(kernel, "ls", "--json")
    assert len(listed["areas"]) == len(kernel.areas)
    found = asked(kernel, "addr", "--json", "phys:0x1000", f"{area.start:#x}")
    assert len(found["addresses"]) == 2
