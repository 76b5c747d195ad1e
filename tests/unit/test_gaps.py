# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What is left of vmalloc space
-----------------------------

A space of 100 pages, drawn by hand; expected places were counted by hand::

    page 0        10   20      30   40    50        60    70            100
         busy A   free  lazy    free busy B  purging  free  busy C, past the end
"""

import argparse
from typing import Any, List, Optional

import pytest

from drgn_vmap._numpy import np
from drgn_vmap.analyses.gaps import find_fit, find_gaps, request_for
from drgn_vmap.commands.common import size
from drgn_vmap.model.areas import State
from drgn_vmap.model.space import Fit, Gap, LazyPages, VmallocRange
from drgn_vmap.render.gaps import fit_text, gaps_json, gaps_text
from tests.fakes.snapshots import BASE, PAGE, area, snapshot_of

VM_ALLOC = 0x2
CALLER = 0xFFFFFFFF81000010
SPACE = VmallocRange(BASE, BASE + 100 * PAGE, BASE + 100 * PAGE - 1)
LAZY = LazyPages(counted=20, maximum=16384)

ROWS = [
    area(0, 10, flags=VM_ALLOC, caller=CALLER),
    area(40, 10, flags=VM_ALLOC),
    area(70, 40, flags=VM_ALLOC),
    area(200, 5, flags=VM_ALLOC),
    area(20, 10, State.LAZY),
    area(50, 10, State.PURGING),
    area(-50, 50, State.FREE),
    area(10, 10, State.FREE),
    area(30, 10, State.FREE),
    area(60, 10, State.FREE),
]


def at(page: int) -> int:
    """Return the address of a page of the space."""
    return BASE + page * PAGE


def fit(
    pages: int,
    align: int = 1,
    rows: Optional[List[Any]] = None,
    tries_each_gap: bool = False,
) -> Fit:
    """Ask for pages, guard page included, when there is no place without a purge."""
    snapshot = snapshot_of(ROWS if rows is None else rows, {CALLER: "who+0x1/0x2"})
    request = request_for((pages - 1) * PAGE, align, PAGE, tries_each_gap)
    return find_fit(snapshot, SPACE, request, None)


def test_sums() -> None:
    """Only what lies in the space counts; 10 + 5 pages in use lie outside."""
    gaps = find_gaps(snapshot_of(ROWS), SPACE, LAZY)
    pages = {state.label: n // PAGE for state, n in gaps.bytes.items()}
    assert pages == {"busy": 50, "lazy": 10, "purging": 10, "pool": 0, "free": 30}
    assert {s.label: n for s, n in gaps.ranges.items()} == {
        "busy": 3,
        "lazy": 1,
        "purging": 1,
        "pool": 0,
        "free": 3,
    }
    assert (gaps.total, gaps.unaccounted) == (100 * PAGE, 0)
    assert gaps.outside_bytes == 15 * PAGE
    assert gaps.lazy_pages == 20


def test_what_no_area_covers_is_in_transit() -> None:
    """Two pages between the areas belong to nobody that can be found."""
    rows = [area(0, 60, flags=VM_ALLOC), area(62, 38, State.FREE)]
    gaps = find_gaps(snapshot_of(rows), SPACE, LAZY)
    assert gaps.unaccounted == 2 * PAGE
    assert "in transit" in gaps_text(gaps)


def test_histogram_and_largest() -> None:
    """Gaps of 1, 3, 2 and 4 pages; the largest counts only inside the space."""
    rows = [
        area(0, 1, State.FREE),
        area(10, 3, State.FREE),
        area(20, 2, State.FREE),
        area(96, 1000, State.FREE),
    ]
    gaps = find_gaps(snapshot_of(rows), SPACE, LAZY)
    assert [(c.size // PAGE, c.gaps, c.bytes // PAGE) for c in gaps.histogram] == [
        (1, 1, 1),
        (2, 2, 5),
        (4, 1, 4),
    ]
    assert gaps.largest == Gap(at(96), at(100))


def test_an_empty_kernel() -> None:
    """Nothing found is no division by zero, and no gap."""
    gaps = find_gaps(snapshot_of([]), SPACE, LAZY)
    assert (gaps.largest, gaps.histogram) == (None, ())
    assert "there is none" in gaps_text(gaps)
    assert gaps_json(gaps, None)["largest_gap"] == 0


@pytest.mark.parametrize(
    "pages, align, place",
    [
        (30, 1, 10),
        (31, 1, None),
        (20, 1, 10),
        (14, 16 * PAGE, 16),
        (15, 16 * PAGE, None),
        (10, 8 * PAGE, 16),
        (8, 32 * PAGE, None),
    ],
)
def test_after_a_purge(pages: int, align: int, place: Optional[int]) -> None:
    """
    Freed neighbours become one gap of the pages 10 to 40, and one of 50 to 70.

    A gap has to have room to align in, be it aligned or not: 14 and 15 pages, not 15 and 15.
    """
    found = fit(pages, align)
    assert found.where_after_purge == (None if place is None else at(place))
    assert found.fits is False
    assert found.fits_after_purge is (place is not None)


@pytest.mark.parametrize(
    "pages, align, place", [(24, 16, 16), (25, 16, None), (8, 32, 32)]
)
def test_before_the_free_tree(pages: int, align: int, place: Optional[int]) -> None:
    """Older kernels try each gap, so that one does which happens to be aligned."""
    found = fit(pages, align * PAGE, tries_each_gap=True)
    assert found.where_after_purge == (None if place is None else at(place))


def test_the_search_passes_over_an_aligned_gap() -> None:
    """Pages 16 to 32 are large enough, but to have room to align in takes 15 more."""
    found = fit(16, 16 * PAGE)
    assert found.in_the_way is not None
    assert found.in_the_way.place == Gap(at(16), at(32))
    assert (found.in_the_way.bytes, found.in_the_way.areas) == (0, ())
    assert f"it looks for {32 * PAGE - 1} bytes" in fit_text(found)


def test_what_stands_in_the_way() -> None:
    """45 pages fit nowhere; at page 10 only B's ten pages (40 to 50) are in use."""
    found = fit(45).in_the_way
    assert found is not None
    assert found.place == Gap(at(10), at(55))
    assert found.bytes == 10 * PAGE
    assert [area.start for area in found.areas] == [at(40)]
    text = fit_text(fit(45))
    assert "does not fit" in text and f"{at(40):#x}" in text


def test_the_largest_in_the_way_comes_first() -> None:
    """99 pages, the most that may end before the limit, are blocked by all three."""
    found = fit(99).in_the_way
    assert found is not None
    assert found.place == Gap(at(0), at(99))
    assert found.bytes == (10 + 10 + 29) * PAGE
    assert [area.start for area in found.areas] == [at(70), at(0), at(40)]
    assert found.areas[1].caller == "who+0x1/0x2"


def test_larger_than_the_space() -> None:
    """The last page is beyond VMALLOC_END, so 100 pages never fit."""
    found = fit(100)
    assert (found.fits_after_purge, found.in_the_way) == (False, None)
    assert "larger than all of this space" in fit_text(found)


def test_pools() -> None:
    """The first range of the right size of a node's pool is taken, if aligned."""
    rows = [
        area(33, 4, State.POOL, vmap_node=0),
        area(36, 4, State.POOL, vmap_node=0),
        area(40, 4, State.POOL, vmap_node=1),
        area(50, 5, State.POOL, vmap_node=1),
    ]
    assert fit(4, rows=rows).pools == {0: at(33), 1: at(40)}
    assert fit(4, 4 * PAGE, rows).pools == {1: at(40)}
    assert fit(3, rows=rows).pools == {}
    assert fit(4, rows=rows).fits


def test_where_the_free_tree_has_a_place() -> None:
    """What the search through the tree found is the answer, and is printed."""
    found = find_fit(snapshot_of(ROWS), SPACE, request_for(9 * PAGE, 1, PAGE), at(10))
    assert found.fits and found.in_the_way is None
    assert f"fits: at {at(10):#x}" in fit_text(found)


@pytest.mark.parametrize(
    "asked, pages", [(1, 2), (4095, 2), (4096, 2), (4097, 3), (8192, 3)]
)
def test_request(asked: int, pages: int) -> None:
    """Whole pages, and one more to guard them."""
    request = request_for(asked, 1, PAGE)
    assert (request.needed, request.searched) == (pages * PAGE, pages * PAGE)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("4096", 4096),
        ("0x1000", 4096),
        ("64K", 65536),
        ("0x10k", 16384),
        ("2M", 2 << 20),
        ("3G", 3 << 30),
        ("1T", 1 << 40),
        ("2MiB", 2 << 20),
    ],
)
def test_size(text: str, expected: int) -> None:
    """Sizes are written as people write them."""
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "K", "-1", "1.5M", "0x", "12Q", "9999999999T"])
def test_no_size(text: str) -> None:
    """What is none is refused."""
    with pytest.raises(argparse.ArgumentTypeError, match="no size"):
        size(text)


def test_no_better_place_is_overlooked() -> None:
    """Trying each page in turn finds no earlier place, and none with less in use."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        states = rng.choice([State.BUSY, State.FREE, State.LAZY], 99)
        rows = [area(page, 1, State(state)) for page, state in enumerate(states)]
        pages = int(rng.integers(1, 99))
        found = fit(pages, rows=rows)
        in_use = [
            int(np.count_nonzero(states[page : page + pages] == State.BUSY))
            for page in range(0, 100 - pages)
        ]
        free_pages = [page for page, count in enumerate(in_use) if not count]
        if free_pages:
            assert found.where_after_purge == at(free_pages[0])
        else:
            assert found.in_the_way is not None
            assert found.in_the_way.bytes == min(in_use) * PAGE
            assert len(found.in_the_way.areas) == min(min(in_use), 10)
