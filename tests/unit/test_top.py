# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Who holds vmalloc space
-----------------------

Sums over a kernel made by hand; each expected number was added up by hand too.
"""

import time
from dataclasses import astuple
from typing import Any, Dict, List, Tuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from drgn_vmap._numpy import np
from drgn_vmap.analyses.top import growth, reconcile, sum_areas
from drgn_vmap.commands import run
from drgn_vmap.model.areas import VMAP_BLOCK, VMAP_RAM, Snapshot, State
from drgn_vmap.model.sums import PageCounter, Sum, Top
from drgn_vmap.render.openmetrics import openmetrics
from drgn_vmap.render.top import growth_text, top_table, verdict_text
from tests.fakes.series import SeriesKernel
from tests.fakes.snapshots import PAGE, area, snapshot_of

FORK, LOAD, EARLY = 0xFFFFFFFF81000010, 0xFFFFFFFFC0000020, 0xFFFFFFFF81000030

CALLERS = {
    FORK: "kernel_clone+0x10/0x430",
    LOAD: "nft_init+0x20/0x100 [nf_tables]",
    EARLY: "hpet_enable+0x9e/0x500",
}

VM_IOREMAP, VM_ALLOC, VM_MAP, VM_USERMAP, PUT_PAGES = 0x1, 0x2, 0x4, 0x8, 0x200


def kernel_by_hand() -> Snapshot:
    """Eight areas in use, and one freed lazily that nobody holds."""
    stack: Dict[str, Any] = {"flags": VM_ALLOC, "caller": FORK, "nr_pages": 4}
    return snapshot_of(
        [
            area(0, 5, numa_pages=(4, 0), **stack),
            area(8, 5, numa_pages=(1, 3), **stack),
            area(
                16,
                11,
                flags=VM_ALLOC | VM_USERMAP,
                caller=LOAD,
                nr_pages=10,
                numa_pages=(0, 10),
            ),
            area(32, 2, flags=VM_IOREMAP, caller=EARLY, phys_addr=0xFED00000),
            area(
                48,
                3,
                flags=VM_MAP | PUT_PAGES,
                caller=EARLY,
                nr_pages=2,
                numa_pages=(2, 0),
            ),
            area(64, 7, flags=0),
            area(80, 100, va_flags=VMAP_RAM),
            area(256, 256, va_flags=VMAP_RAM | VMAP_BLOCK, is_block=True),
            area(600, 9, State.LAZY),
        ],
        CALLERS,
    )


def sums(by: str) -> List[Tuple[str, int, int, int]]:
    """Return key, areas, pages of addresses and pages of memory of each row."""
    found = sum_areas(kernel_by_hand(), by)
    return [(row.key, row.areas, row.bytes // PAGE, row.pages) for row in found.rows]


def test_by_caller() -> None:
    """Callers with the largest sum come first; what has no caller says what it is."""
    assert sums("caller") == [
        ("vmap_block", 1, 256, 0),
        ("vm_map_ram", 1, 100, 0),
        (CALLERS[LOAD], 1, 11, 10),
        (CALLERS[FORK], 2, 10, 8),
        ("(no caller)", 1, 7, 0),
        (CALLERS[EARLY], 2, 5, 2),
    ]


def test_by_module() -> None:
    """Code of the kernel image is one row, each module another."""
    assert sums("module") == [
        ("vmap_block", 1, 256, 0),
        ("vm_map_ram", 1, 100, 0),
        ("(kernel)", 4, 15, 10),
        ("nf_tables", 1, 11, 10),
        ("(no caller)", 1, 7, 0),
    ]


def test_by_kind() -> None:
    """An area of two kinds is counted once, under both names."""
    assert sums("kind") == [
        ("vmap_block", 1, 256, 0),
        ("vm_map_ram", 1, 100, 0),
        ("vmalloc user", 1, 11, 10),
        ("vmalloc", 2, 10, 8),
        ("(no kind)", 1, 7, 0),
        ("vmap", 1, 3, 2),
        ("ioremap", 1, 2, 0),
    ]


def test_by_node() -> None:
    """The second stack has pages on both nodes and counts for both."""
    assert sums("node") == [
        ("(no pages)", 4, 365, 0),
        ("1", 2, 13, 13),
        ("0", 3, 7, 7),
    ]


@pytest.mark.parametrize("by", ["caller", "module", "kind"])
def test_the_rows_add_up_to_the_total(by: str) -> None:
    """No area in use is left out, or counted twice."""
    total = sum_areas(kernel_by_hand(), by).total
    assert (total.areas, total.bytes, total.pages) == (8, 389 * PAGE, 20)
    assert sum(row[1] for row in sums(by)) == 8
    assert sum(row[2] for row in sums(by)) == 389
    assert sum(row[3] for row in sums(by)) == 20


def test_nobody_holds_anything() -> None:
    """A kernel without areas is no error."""
    found = sum_areas(snapshot_of([]), "caller")
    assert (found.rows, found.total.areas) == ((), 0)
    assert top_table(found).startswith("no busy area\n")


@pytest.mark.parametrize(
    "pages, pending, verdict, difference",
    [(18, 0, "equal", 0), (15, 3, "equal", 0), (20, 0, "differs", 2)],
)
def test_reconciliation(
    pages: int, pending: int, verdict: str, difference: int
) -> None:
    """4 + 4 + 10 pages are from vmalloc(); the 2 that vmap() keeps don't count."""
    counter = PageCounter("NR_VMALLOC", pages, pending)
    found = reconcile(kernel_by_hand(), counter)
    assert found.summed_pages == 18
    assert (found.verdict, found.difference_pages) == (verdict, difference)
    assert verdict in verdict_text(found, live=False)


@pytest.mark.parametrize(
    "name, pages, told",
    [
        ("nr_vmalloc_pages", 17, True),
        ("nr_vmalloc_pages", 19, False),
        ("NR_VMALLOC", 17, False),
    ],
)
def test_what_older_kernels_take_off_makes_less(
    name: str, pages: int, told: bool
) -> None:
    """It is named where it may be the reason, and nowhere else."""
    found = reconcile(kernel_by_hand(), PageCounter(name, pages, 0))
    assert ("older kernel" in verdict_text(found, live=False)) == told


def test_without_a_counter() -> None:
    """Without something to compare with there is no verdict, and that is said."""
    found = reconcile(kernel_by_hand(), None)
    assert found.verdict == "no counter"
    assert "no counter" in verdict_text(found, live=False)


def test_the_table_keeps_hostile_names_in_their_place() -> None:
    """A symbol cannot move the cursor of the terminal it is shown on."""
    rows = [area(0, 2, flags=VM_ALLOC, caller=FORK)]
    found = sum_areas(snapshot_of(rows, {FORK: "evil\x1b[2J+0x0/0x1"}), "caller")
    assert "\x1b" not in top_table(found)
    assert "evil\\x1b[2J" in top_table(found)


def test_the_table_says_what_it_leaves_out() -> None:
    """5 of 6 rows are hidden; together they have 133 pages, 532 KiB."""
    text = top_table(sum_areas(kernel_by_hand(), "caller", limit=1))
    assert "… and 5 more with 532.0 KiB" in text
    assert "hpet_enable" not in text


def metrics(text: str) -> Dict[str, Dict[str, float]]:
    """Return what Prometheus's own parser reads: label's value and value, by name."""
    return {
        family.name: {
            sample.labels.get("caller", ""): sample.value for sample in family.samples
        }
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    }


def test_openmetrics() -> None:
    """Each gauge has the sums that were added up by hand."""
    snapshot = kernel_by_hand()
    counter = reconcile(snapshot, PageCounter("NR_VMALLOC", 15, 3))
    top = sum_areas(snapshot, "caller")
    found = metrics(openmetrics(top, counter, snapshot.kernel))
    assert found["vmap_caller_areas"] == {row[0]: row[1] for row in sums("caller")}
    assert found["vmap_caller_bytes"][CALLERS[FORK]] == 10 * PAGE
    assert found["vmap_caller_pages"][CALLERS[LOAD]] == 10
    assert found["vmap_bytes"] == {"": 389 * PAGE}
    assert found["vmap_kernel_counted_pages"] == found["vmap_found_pages"] == {"": 18}
    top = sum_areas(snapshot, "caller", limit=2)
    assert len(metrics(openmetrics(top, counter, None))["vmap_caller_areas"]) == 2


def test_openmetrics_of_hostile_names() -> None:
    """No name ends its label, its line or the text."""
    name = 'a"b\\c\nd\x1b# EOF+0x0/0x1'
    rows = [area(0, 2, flags=VM_ALLOC, caller=FORK)]
    snapshot = snapshot_of(rows, {FORK: name})
    text = openmetrics(sum_areas(snapshot, "caller"), reconcile(snapshot, None), None)
    [(label, value)] = metrics(text)["vmap_caller_areas"].items()
    assert (label, value) == ('a"b\\c\\nd\\x1b# EOF+0x0/0x1', 1)


def test_two_hundred_thousand_areas_are_quick() -> None:
    """Each grouping takes well under a second."""
    few = kernel_by_hand()
    many = Snapshot(few.kernel, few.areas.take(np.arange(9).repeat(25_000)), CALLERS)
    for by in ("caller", "module", "kind", "node"):
        began = time.process_time()
        assert sum_areas(many, by).total.areas == 200_000
        assert time.process_time() - began < 2


def test_growth() -> None:
    """What became more or less, the largest growth first; what stayed is left out."""

    def top(*rows: Sum) -> Top:
        columns = zip(*(astuple(row)[1:] for row in rows))
        total = Sum("total", *map(sum, columns))
        return Top("caller", rows, total)

    first = top(Sum("same", 1, 9, 1), Sum("gone", 2, 20, 0), Sum("more", 1, 5, 1))
    now = top(Sum("same", 1, 9, 1), Sum("more", 3, 15, 3), Sum("new", 1, 40, 2))
    found = growth(first, now)
    assert found.rows == (
        Sum("new", 1, 40, 2),
        Sum("more", 2, 10, 2),
        Sum("gone", -2, -20, 0),
    )
    assert found.total == Sum("total", 1, 30, 4)
    assert "+40" in growth_text(found) and "-n 0" in growth_text(found, 1)
    assert growth_text(growth(now, now)).startswith("nothing changed")


@pytest.mark.parametrize("seconds", ["0", "nan", "inf", "x", "-1", "1e9"])
def test_no_time_to_wait(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused in a line."""
    assert run("top", None, ["--watch", seconds]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_vmcore_is_not_watched(capsys: pytest.CaptureFixture[str]) -> None:
    """It does not change."""
    assert run("top", SeriesKernel().program(), ["--watch", "1"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "does not change" in err
