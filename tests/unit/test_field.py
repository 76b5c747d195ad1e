# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernels of the field
--------------------

Generations before 5.10, vendors' mixtures and what is under review: each verb is right
of them, or says in one line that it cannot be. What the fakes were made of is the truth.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from drgn import FaultError, Object

from drgn_vmap.analyses.top import reconcile
from drgn_vmap.commands import run
from drgn_vmap.errors import VmapError
from drgn_vmap.helpers import decode_vmap_area_flags
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.vmalloc.blocks import take_blocks
from drgn_vmap.kernel.vmalloc.counters import vmalloc_pages
from drgn_vmap.kernel.vmalloc.inspection import inspect
from drgn_vmap.kernel.vmalloc.snapshot import take_snapshot
from drgn_vmap.model.areas import LAYOUTS, ProblemKind
from drgn_vmap.model.sums import PageCounter
from tests.fakes import snapshots
from tests.fakes.field import FIELD, Field, FieldKernel, expected_lines
from tests.fakes.kernel import BASE, PAGE
from tests.fakes.series import BITS, FREE, USED

VM_ALLOC = 0x2

KERNELS = pytest.mark.parametrize("name", FIELD)
LISTS = pytest.mark.parametrize("lists", [[], ["--lists"]], ids=["trees", "lists"])


def asked(
    capsys: pytest.CaptureFixture[str],
    kernel: FieldKernel,
    *words: str,
    status: int = 0,
) -> str:
    """Return what a verb prints that ends so and tells of nothing on the side."""
    found = run(words[0], kernel.program(), words[1:])
    out, err = capsys.readouterr()
    assert (found, err) == (status, "")
    return out


def document(capsys: pytest.CaptureFixture[str], *args: Any, **kw: Any) -> Any:
    return json.loads(asked(capsys, *args, "--json", **kw))


@LISTS
@KERNELS
def test_listing(
    name: str, lists: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each area by its label and in its place, those freed lazily too."""
    kernel = FieldKernel(FIELD[name])
    lines = asked(capsys, kernel, "ls", *lists).splitlines()
    assert lines == expected_lines(kernel, FIELD[name])


@LISTS
@KERNELS
def test_states(
    name: str, lists: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who has which address, and what is free is what nobody has."""
    kernel = FieldKernel(FIELD[name])
    found = document(capsys, kernel, "ls", "--all", "--format", "json", *lists)
    assert found["kernel"]["layout"] == FIELD[name].layout
    starts: dict[str, list[int]] = {}
    for area in found["areas"]:
        starts.setdefault(area["state"], []).append(int(area["start"], 16))
    assert sorted(starts["busy"]) == sorted(area.start for area in kernel.areas)
    assert sorted(starts["lazy"]) == sorted(area.start for area in kernel.freed)
    held = sorted((*kernel.areas, *kernel.freed), key=lambda area: area.start)
    assert starts["free"] == [1, *(area.end for area in held)]


@LISTS
@KERNELS
def test_blocks(
    name: str, lists: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The one block, with its counters; its bits where there are any."""
    found = document(capsys, FieldKernel(FIELD[name]), "blocks", *lists)
    [block] = found["blocks"]
    assert (block["free_pages"], block["dirty_pages"]) == (FREE, BITS - FREE - USED)
    if FIELD[name].used_map:
        assert block["used_pages"] == USED


@LISTS
@KERNELS
def test_consistency(
    name: str, lists: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is wrong with them, and what they have not is not checked."""
    field = FIELD[name]
    found = document(capsys, FieldKernel(field), "fsck", *lists)
    verdicts = {check["id"]: check["verdict"] for check in found["checks"]}
    assert set(verdicts.values()) == {"ok", "skipped"}
    by_trees = field.has_rb_node and not lists
    assert (verdicts["area-trees"] == "ok") == by_trees
    assert (verdicts["free-tree"] == "ok") == (by_trees and field.has_free_tree)
    assert (verdicts["area-flags"] == "ok") == (field.flags == "new")
    assert (verdicts["area-gaps"] == "ok") == field.has_free_tree
    assert verdicts["block-area"] == "ok"


@LISTS
@KERNELS
def test_series(
    name: str, lists: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Old flags are none of the series'; what is said of them is so."""
    flags = FIELD[name].flags
    fixed = flags == "new"
    found = document(capsys, FieldKernel(FIELD[name]), "verify", *lists, status=1)
    assert found["verdict"] == ("fixed" if fixed else "not-fixed")
    evidence = found["patches"][1]["evidence"][0]
    assert ("has no member flags" in evidence) == (not flags)
    assert ("has flags, but none for vm_map_ram()" in evidence) == (flags == "old")


@LISTS
@KERNELS
def test_other_verbs(
    name: str, lists: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """They find the areas as well, those by the tree of free areas like those without."""
    kernel = FieldKernel(FIELD[name])
    assert FIELD[name].layout in LAYOUTS
    top = document(capsys, kernel, "top", *lists)
    assert top["total"]["areas"] == len(kernel.areas)
    middle = kernel.freed[1].start + 4096
    # It also tells whose an area is, which takes names that this fake has lost.
    run("addr", kernel.program(), [hex(middle), *lists])
    words = capsys.readouterr().out
    assert f"{kernel.freed[1].start:#x}" in words and "lazy" in words


def test_old_flags_in_words() -> None:
    """A person is not told of vm_map_ram() by flags that were there before its own."""
    kernel = FieldKernel(FIELD["RHEL 8.3"])
    prog = kernel.program()
    words = [
        decode_vmap_area_flags(Object(prog, "struct vmap_area *", area.address))
        for area in (*kernel.areas, *kernel.freed)
    ]
    freed = ["VM_LAZY_FREE", "0", "VM_LAZY_FREE"]
    assert words == [*["VM_VM_AREA"] * 3, "0", "0", "VM_VM_AREA", *freed]


def test_before_4_18(capsys: pytest.CaptureFixture[str]) -> None:
    """Whether areas without a vm are listed is not known of them: one line, no answer."""
    kernel = FieldKernel(replace(FIELD["4.18"], has_seq_ops=False))
    assert run("ls", kernel.program(), []) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert "before Linux 4.18" in err


@pytest.mark.parametrize(
    "field, listed",
    [
        (FIELD["RHEL 8.5"], False),
        (FIELD["6.5"], True),
        (FIELD["5.15"], None),
        # As in 5.18, which has a parameter that tells.
        (replace(FIELD["5.15"], adjusts=True), True),
    ],
)
def test_lazy_behind_vm_map_ram(
    field: Field, listed: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether freed areas follow one of vm_map_ram(); where nothing tells, that is said."""
    kernel = FieldKernel(field, topmost=False)
    assert run("ls", kernel.program(), []) == 0
    out, err = capsys.readouterr()
    assert ("unpurged" in out) == (listed is not False)
    assert ("may not list unpurged areas" in err) == (listed is None)


def test_addresses_that_nobody_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A kernel whose listing has %p hashes them, whatever kptr_restrict is."""
    real = FieldKernel(FIELD["6.5"])
    hashing = FieldKernel(replace(FIELD["6.5"], functions=("show_busy_info",)))
    start = f"0x{real.areas[0].start:016x}"
    assert start in asked(capsys, real, "ls", "--pointers", "auto")
    found = asked(capsys, hashing, "ls", "--pointers", "auto").splitlines()
    assert len(found) == len(expected_lines(hashing, FIELD["6.5"]))
    assert all(line.startswith("0x00000000") for line in found)


@pytest.mark.parametrize("layout", ["4.18", "5.2", "6.5"])
def test_unrestricted_addresses(
    layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With kptr_restrict 0, %pK hashes on all kernels that %p does: seen on a real 4.18."""
    kernel = FieldKernel(FIELD[layout])
    kernel.memory[kernel.variables["kptr_restrict"][1]] = 0
    lines = asked(capsys, kernel, "ls", "--pointers", "auto").splitlines()
    assert lines and all(line.startswith("0x00000000") for line in lines)


@LISTS
def test_a_flag_of_later(lists: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A flag of vmap_area that is not known changes nothing of the others."""
    kernel = FieldKernel(FIELD["6.5"])
    for area in kernel.areas:
        kernel.memory[kernel.word(area, "flags")] |= 0x4
    lines = asked(capsys, kernel, "ls", *lists).splitlines()
    assert lines == expected_lines(kernel, FIELD["6.5"])
    checks = document(capsys, kernel, "fsck", *lists)["checks"]
    assert {check["verdict"] for check in checks} <= {"ok", "skipped"}


def test_pages_of_allocation_tags() -> None:
    """The kernel's counter leaves out what lib/alloc_tag.c fills by itself."""
    rows = [
        snapshots.area(0, 9, flags=VM_ALLOC, nr_pages=8),
        snapshots.area(16, 5, flags=VM_ALLOC),
    ]
    rows[1]["nr_pages"] = 4
    tags = rows[1]["vm"]
    counter = PageCounter("NR_VMALLOC", 8, 0, tags)
    assert reconcile(snapshots.snapshot_of(rows), counter).difference_pages == 0
    alike = replace(counter, uncounted_vm=0)
    assert reconcile(snapshots.snapshot_of(rows), alike).difference_pages == -4


def test_where_allocation_tags_are() -> None:
    """The variable that names their vm_struct."""
    kernel = FieldKernel(FIELD["6.5"])
    for name, value in (("nr_vmalloc_pages", 7), ("vm_module_tags", 0x1230)):
        at = kernel._allocate(8)
        kernel.memory[at] = value
        kernel.variables[name] = ("atomic_long_t", at)
    kernel.variables["vm_module_tags"] = (
        "unsigned long",
        kernel.variables["vm_module_tags"][1],
    )
    found = vmalloc_pages(Target(kernel.program()))
    assert found == PageCounter("nr_vmalloc_pages", 7, 0, 0x1230)


def test_a_damaged_tree_by_lists(capsys: pytest.CaptureFixture[str]) -> None:
    """A tree that lost a branch without a trace: the lists have all of it."""
    kernel = FieldKernel(FIELD["6.5"])
    root = kernel.memory[kernel.variables["vmap_area_root"][1]]
    top = next(one for one in kernel.areas if kernel.word(one, "rb_parent") == root)
    kernel.memory[kernel.word(top, "rb_left")] = 0
    whole = expected_lines(kernel, FIELD["6.5"])
    assert len(asked(capsys, kernel, "ls").splitlines()) < len(whole)
    assert asked(capsys, kernel, "ls", "--lists").splitlines() == whole


def test_lists_of_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A text has neither lists nor trees."""
    assert run("ls", None, ["--lists", "--from", "x"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vmap ls: --lists ") and "--from" in err


@pytest.mark.parametrize("members", [(), ("cpu",)])
@pytest.mark.parametrize("parameters", [(), ("vm",)])
def test_no_sign_stands_for_another(
    members: tuple[str, ...], parameters: tuple[str, ...]
) -> None:
    """Whether an area has its vm early is told by the parameter alone."""
    field = replace(FIELD["6.5"], members=members, parameters=parameters)
    found = inspect(Target(FieldKernel(field).program()))
    assert found.vm_set_early == bool(parameters)


class ExcludingKernel(FieldKernel):
    """A kernel of which a dump left out a page; each of its structs has its own."""

    excluded = 0

    def _allocate(self, size: int) -> int:
        self._next = -(-self._next // PAGE) * PAGE
        return super()._allocate(size)

    def read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        if address // PAGE <= self.excluded <= (address + count - 1) // PAGE:
            raise FaultError("not in the dump", self.excluded * PAGE)
        return super().read(address, count, offset, physical)


@pytest.mark.parametrize("name", ["4.18", "RHEL 8.5", "RHEL 9"])
def test_excluded_is_not_corrupt(name: str) -> None:
    """Of a page that a dump left out, nothing is said but that it is not there."""
    kernel = ExcludingKernel(FIELD[name])
    said: set[str] = set()
    for kernel.excluded in range(BASE // PAGE, kernel._next // PAGE + 1):
        for take in (take_snapshot, take_blocks):
            try:
                with Target(kernel.program()) as target:
                    problems = take(target).problems
            except VmapError:
                continue
            said |= {problem.what for problem in problems}
    assert said and said <= {ProblemKind.UNREADABLE, ProblemKind.UNSUPPORTED}
