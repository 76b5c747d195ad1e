# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What consistency checks conclude, from records made by hand."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from drgn_vmap._numpy import np
from drgn_vmap.analyses.fsck import confirmed, judge_lasting, run_checks
from drgn_vmap.commands import fsck
from drgn_vmap.model.areas import Problem, ProblemKind, Snapshot, State
from drgn_vmap.model.inspection import AreaTree, Check, Inspection, Verdict, VmPages
from drgn_vmap.model.space import LazyPages
from drgn_vmap.model.sums import PageCounter
from drgn_vmap.render.fsck import check_json, check_lines
from tests.fakes.blocks import BITS, FakeBlock, blocks_of
from tests.fakes.inspection import inspection_of

HEALTHY = FakeBlock(used="####..##", mapped="###...##", free=BITS - 8)


def kernel_with(block: FakeBlock, has_used_map: bool = True) -> Inspection:
    return inspection_of(blocks_of([HEALTHY, block], has_used_map))


def check(found: Inspection, id_: str) -> Check:
    [wanted] = [check for check in run_checks(found) if check.id == id_]
    return wanted


def wrong(found: Inspection) -> set[str]:
    return {check.id for check in run_checks(found) if check.failures}


def live(found: Inspection) -> Inspection:
    kernel = replace(found.snapshot.kernel, live=True)
    return replace(found, snapshot=replace(found.snapshot, kernel=kernel))


def test_healthy() -> None:
    """Nothing is found where nothing is wrong, and each check says so."""
    checks = run_checks(kernel_with(HEALTHY))
    assert {c.verdict for c in checks} == {Verdict.OK, Verdict.SKIPPED}
    assert all(c.reason for c in checks if c.verdict == Verdict.SKIPPED)
    assert len({c.id for c in checks}) == len(checks)


@pytest.mark.parametrize(
    "block, expected",
    [
        (FakeBlock(free=BITS + 1, dirty=0), {"block-counters"}),
        (FakeBlock(free=0, dirty=BITS + 1, list_cpu=None), {"block-counters"}),
        (FakeBlock(used="##", free=BITS - 2, dirty=2), {"block-counters"}),
        (FakeBlock(used="##", free=BITS - 4, dirty=0), {"block-sum"}),
        (FakeBlock(used="..#", free=BITS - 2, dirty=1), {"block-bump-pointer"}),
        (FakeBlock(free=BITS - 8, dirty_min=6, dirty_max=2), {"block-dirty-range"}),
        (FakeBlock(free=BITS - 8, dirty_min=0, dirty_max=9), {"block-dirty-range"}),
        (FakeBlock(free=BITS - 8, list_cpu=None), {"block-list"}),
        (FakeBlock(used="#" * BITS, free=0), {"block-list"}),
        (FakeBlock(free=BITS - 8, queue_cpu=1), {"block-list-cpu"}),
        (FakeBlock(free=BITS - 8, mapped="#"), {"block-mapped"}),
    ],
)
def test_damaged_block(block: FakeBlock, expected: set[str]) -> None:
    """Each way a block can be wrong is found by its own check, at its address."""
    found = kernel_with(block)
    assert wrong(found) - {"block-counters"} == expected - {"block-counters"}
    for id_ in expected:
        [failure] = check(found, id_).failures
        assert failure.address == found.blocks.table.address[1]


@pytest.mark.parametrize(
    "block",
    [
        # A purged block on its way out, and dirty ranges that just fit.
        FakeBlock(free=0, dirty=BITS, dirty_min=0, dirty_max=BITS, list_cpu=None),
        FakeBlock(free=BITS - 8, dirty_min=0, dirty_max=8),
        FakeBlock(free=BITS),
        # The tail of a rounded request is used, but not mapped.
        FakeBlock(used="####", mapped="###", free=BITS - 4),
    ],
)
def test_legal_block(block: FakeBlock) -> None:
    """The edges of what is legal are legal."""
    assert wrong(kernel_with(block)) == set()


def test_mapped_page_without_used_map() -> None:
    """Before 6.3 a mapped page must at least have been handed out."""
    assert wrong(kernel_with(FakeBlock(free=BITS - 2, mapped="##"), False)) == set()
    found = kernel_with(FakeBlock(free=BITS - 2, mapped="..#"), False)
    assert wrong(found) == {"block-mapped"}


def test_what_is_mapped_is_not_known() -> None:
    """Without the page table, as on ppc64 with its hash table, nothing is called ok."""
    lost = replace(HEALTHY, mapped_known=False)
    found = inspection_of(blocks_of([lost]))
    row, word = np.zeros(2, np.intp), np.ones(2, np.uint64)
    pages = VmPages(row, word, word, word, word - np.uint64(1), np.zeros(2, bool))
    found = replace(found, vm_pages=pages)
    for id_ in ("block-mapped", "vm-pages"):
        assert check(found, id_).verdict == Verdict.SKIPPED
        assert "not known" in str(check(found, id_).reason)


def test_moment_is_explained_by_who_was_at_it() -> None:
    """What is legal for a moment is damage only if nobody was at just that moment."""
    found = kernel_with(FakeBlock(used="##", free=BITS - 4, dirty=0))
    assert check(found, "block-sum").verdict == Verdict.FAILED
    busy = replace(found, activity=("CPU 1 was in vb_free()",))
    assert check(busy, "block-sum").verdict == Verdict.EXPLAINABLE
    assert "CPU 1 was in vb_free()" in check(busy, "block-sum").reason
    assert check(live(found), "block-sum").verdict == Verdict.EXPLAINABLE


def test_damage_is_not_explained() -> None:
    """What is never legal is damage, whoever was at it."""
    found = kernel_with(FakeBlock(free=BITS + 1, dirty=0))
    busy = replace(live(found), activity=("CPU 1 was in vb_free()",))
    assert check(busy, "block-counters").verdict == Verdict.FAILED


def test_block_without_area_and_area_without_block() -> None:
    """Areas and blocks must have each other."""
    found = kernel_with(HEALTHY)
    table = found.blocks.table
    foreign = replace(table, area=np.array([table.area[0], 0xDEAD000], np.uint64))
    found = replace(found, blocks=replace(found.blocks, table=foreign))
    assert wrong(found) == {"block-area", "area-block"}
    [failure] = check(found, "area-block").failures
    assert failure.address == table.area[1]


def test_gap_and_overlap() -> None:
    """Each address belongs to one area and no more."""
    found = kernel_with(HEALTHY)
    areas = found.snapshot.areas
    for delta, expected in ((-4096, "area-gaps"), (4096, "area-overlaps")):
        end = areas.end.copy()
        end[1] = int(end[1]) + delta
        moved = replace(found.snapshot, areas=replace(areas, end=end))
        assert wrong(replace(found, snapshot=moved)) == {expected}


def test_tangled_tree() -> None:
    """A tree in which each area is below the one before twice is seen in no time."""
    count = 60
    link = np.arange(count, dtype=np.uint64) * np.uint64(64) + np.uint64(0x10000)
    below = np.append(link[1:], np.uint64(0))
    start = np.arange(count, dtype=np.uint64) * np.uint64(4096)
    tree = AreaTree(
        name="busy areas",
        head=0x100,
        first=int(link[0]),
        last=int(link[-1]),
        root=int(link[0]),
        address=link,
        start=start,
        end=start + np.uint64(4096),
        link=link,
        next=np.append(link[1:], np.uint64(0x100)),
        prev=np.append(np.uint64(0x100), link[:-1]),
        rb=link,
        left=below,
        right=below,
        largest=None,
    )
    found = replace(kernel_with(HEALTHY), trees=(tree,))
    assert wrong(found) == {"area-trees"}
    assert len(check(found, "area-trees").failures) == count - 1


def test_problem_of_a_reader_is_a_failure() -> None:
    """What could not be read is named with the address it is told with."""
    found = kernel_with(HEALTHY)
    problem = Problem(
        ProblemKind.UNREADABLE, "vmap_block 0xffff888000001000", "left out"
    )
    found = replace(found, blocks=replace(found.blocks, problems=(problem,)))
    [failure] = check(found, "readable").failures
    assert failure.address == 0xFFFF888000001000


def test_what_drgn_cannot_do_is_no_failure() -> None:
    """Nothing is damaged where drgn has no page tables of an architecture."""
    found = kernel_with(HEALTHY)
    problem = Problem(ProblemKind.UNSUPPORTED, "page table", "unknown")
    found = replace(found, blocks=replace(found.blocks, problems=(problem,)))
    assert check(found, "readable").verdict == Verdict.OK


@pytest.mark.parametrize(
    "name, pages, verdict",
    [
        ("nr_vmalloc_pages", 0, Verdict.OK),
        # What vfree() took off by mistake is missing, so there can't be too many.
        ("nr_vmalloc_pages", -3, Verdict.EXPLAINABLE),
        ("nr_vmalloc_pages", 3, Verdict.FAILED),
        # Kernels that count by node have that mended.
        ("NR_VMALLOC", -3, Verdict.FAILED),
        ("NR_VMALLOC", 3, Verdict.FAILED),
    ],
)
def test_count_of_pages(name: str, pages: int, verdict: Verdict) -> None:
    """A counter that is too low is what some healthy kernels have, whoever was at it."""
    found = replace(kernel_with(HEALTHY), counter=PageCounter(name, pages, 0))
    assert check(found, "vmalloc-pages").verdict == verdict
    # Nor does it matter whether areas have flags.
    kernel = replace(found.snapshot.kernel, has_va_flags=False)
    older = replace(found, snapshot=replace(found.snapshot, kernel=kernel))
    assert check(older, "vmalloc-pages").verdict == verdict


def test_confirmed() -> None:
    """On a live kernel only what is found twice counts."""
    damaged = run_checks(kernel_with(FakeBlock(free=BITS + 1, dirty=0)))
    healthy = run_checks(kernel_with(HEALTHY))
    assert {c.verdict for c in confirmed(damaged, healthy) if c.failures} == set()
    assert all(
        c.verdict in (Verdict.OK, Verdict.SKIPPED) for c in confirmed(damaged, healthy)
    )
    assert confirmed(damaged, damaged) == damaged


def test_what_stays_is_damage() -> None:
    """The same in each reading is no moment: legal ones and races of readers as well."""
    damaged = live(kernel_with(FakeBlock(used="##", free=BITS - 4, dirty=0)))
    race = Problem(ProblemKind.RACING, "rb_node 0xffff888000001000", "odd")
    snapshot = replace(damaged.snapshot, problems=(race,))
    checks = run_checks(replace(damaged, snapshot=snapshot))
    assert {c.verdict for c in checks if c.failures} == {Verdict.EXPLAINABLE}
    again = judge_lasting(confirmed(checks, checks), 5)
    found = {c.id: c for c in again if c.failures}
    assert set(found) == {"readable", "block-sum"}
    assert {c.verdict for c in found.values()} == {Verdict.FAILED}
    assert "the same each of 5 times" in found["readable"].reason
    assert "while pages are freed" in found["block-sum"].reason


def test_excuses_last() -> None:
    """What healthy kernels may have at any time is no damage, however often it is read."""
    found = live(kernel_with(HEALTHY))
    low = replace(found, counter=PageCounter("nr_vmalloc_pages", -3, 0))
    hidden = Problem(ProblemKind.NAMELESS, "kallsyms", "callers have no names")
    snapshot = replace(found.snapshot, problems=(hidden,))
    for healthy in (low, replace(found, snapshot=snapshot)):
        checks = judge_lasting(run_checks(healthy), 5)
        [odd] = [c for c in checks if c.failures]
        assert odd.verdict == Verdict.EXPLAINABLE and odd.reason


def test_counter_that_counts_on() -> None:
    """A counter that is wrong by as much each time is told by that, not by its value."""
    found = live(kernel_with(HEALTHY))
    first, second, other = (
        run_checks(replace(found, lazy=LazyPages(counted, 1000), snapshot=snapshot))
        for counted, snapshot in (
            (3, found.snapshot),
            (259, with_lazy_pages(found, 256)),
            (258, with_lazy_pages(found, 256)),
        )
    )
    assert [c.id for c in confirmed(first, second) if c.failures] == ["lazy-pages"]
    assert [c.id for c in confirmed(first, other) if c.failures] == []


def with_lazy_pages(found: Inspection, pages: int) -> Snapshot:
    """Return the areas with that many pages of a free one on their way to be."""
    areas = found.snapshot.areas
    state, end = areas.state.copy(), areas.end.copy()
    row = int(np.flatnonzero(state == State.FREE)[0])
    state[row], end[row] = State.LAZY, int(areas.start[row]) + pages * 4096
    return replace(found.snapshot, areas=replace(areas, state=state, end=end))


@pytest.mark.parametrize("passes", [False, True])
def test_live_readings(passes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live kernel is read until nothing is left, or often enough to call it damage."""
    damaged = live(kernel_with(FakeBlock(used="##", free=BITS - 4, dirty=0)))
    readings = iter([damaged, live(kernel_with(HEALTHY))] if passes else [damaged] * 21)
    monkeypatch.setattr(fsck, "inspect", lambda target: next(readings))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    _, checks = fsck.inspect_and_check(None)  # type: ignore[arg-type]
    bad = {c.id for c in checks if c.verdict == Verdict.FAILED}
    assert bad == (set() if passes else {"block-sum"})
    assert next(readings, None) is None


def test_looks() -> None:
    """A failure is told with its address, control characters are not."""
    found = kernel_with(HEALTHY)
    problem = Problem(ProblemKind.CORRUPT, "vmap_block 0x1000", "\x1b[2J")
    found = replace(found, blocks=replace(found.blocks, problems=(problem,)))
    checks = run_checks(found)
    text = check_lines(checks)
    assert "failed      readable: " in text and "\x1b" not in text
    assert text.endswith(f"{len(checks)} checks: 18 ok, 1 failed, 5 skipped\n")
    [document] = [check_json(c) for c in checks if c.id == "readable"]
    assert document["verdict"] == "failed"
    assert document["failures"][0]["address"] == "0x1000"
