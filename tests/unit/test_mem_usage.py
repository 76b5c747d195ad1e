# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap mem-usage` on fake RAM: marks of kernels that are not in the lab, and damage.
Real kernels are counted in the lab.
"""

import json
import re
from typing import Dict, Tuple

import pytest

from drgn_vmap._numpy import np
from drgn_vmap.commands import run as run_verb
from drgn_vmap.commands.mem_usage import count
from drgn_vmap.kernel.target import Target
from drgn_vmap.model.mem_usage import PageClass
from tests.fakes import ram
from tests.fakes.ram import PAGES, RamKernel

LRU, PRIVATE = 1 << ram.LRU, 1 << ram.PRIVATE
SWAP = 1 << ram.SWAPCACHE | 1 << ram.SWAPBACKED
BUDDY, OFFLINE = (
    ram.NUMBERS[f"PAGE_{name}_MAPCOUNT_VALUE"] for name in ("BUDDY", "OFFLINE")
)
ANON = 0xFFFF888000000001
OTHER_TYPE = -1234


def counts(kernel: RamKernel) -> Dict[str, int]:
    """Return the pages of each class that has some, less what is kernel data."""
    usage = count(Target(kernel.program()))
    assert usage.total == PAGES
    assert usage.problems == ()
    return {
        one.name: pages
        for one, pages in usage.pages.items()
        if pages and one.name != "KERN_DATA"
    }


def test_classes() -> None:
    """Each mark, and which one counts where a page has two."""
    kernel = RamKernel({"PG_slab": ram.SLAB})
    kernel.set(0, flags=LRU)
    kernel.set(1, flags=SWAP)
    kernel.set(2, flags=1 << ram.SWAPCACHE)
    kernel.set(3, flags=LRU | PRIVATE)
    kernel.set(4, flags=LRU | PRIVATE, mapping=ANON)
    kernel.set(5, mapping=ANON)
    kernel.set(6, mapping=ANON, flags=1 << ram.SLAB)
    kernel.set(8, _mapcount=BUDDY, private=3)
    kernel.set(16, _mapcount=OFFLINE)
    kernel.set(17, flags=1 << ram.POISON)
    kernel.set(18, flags=LRU | 1 << ram.POISON)
    kernel.zeros = [0, 5, 9, 20, 21]
    assert counts(kernel) == {
        "ZERO": 2,
        "NON_PRI_CACHE": 3,
        "PRI_CACHE": 1,
        "USER": 2,
        "FREE": 8,
        "LEFT_OUT": 2,
    }


@pytest.mark.parametrize("is_mask", [False, True])
@pytest.mark.parametrize("at_once", [64, 1 << 16])
def test_compound_pages(
    is_mask: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tails are what their head is, however far before them it is."""
    classes = "drgn_vmap.kernel.memory.page_classes"
    monkeypatch.setattr(f"{classes}._FRAMES_AT_ONCE", at_once)
    kernel = RamKernel(is_mask=is_mask)
    kernel.set_compound(256, 256, flags=LRU, mapping=ANON)
    kernel.set_compound(128, 8, flags=LRU)
    kernel.set_compound(136, 8)
    kernel.set(192, _mapcount=BUDDY, private=6)
    assert counts(kernel) == {"USER": 256, "NON_PRI_CACHE": 8, "FREE": 64}


@pytest.mark.parametrize(
    "kernel, head, behind",
    [
        (RamKernel({"PAGE_HUGETLB_MAPCOUNT_VALUE": OTHER_TYPE}), OTHER_TYPE, b""),
        (RamKernel({"PG_hugetlb": 8}), 0, b"\x00\x01"),
        (RamKernel({"HUGETLB_PAGE_DTOR": 2}, dtor="page"), 0, bytes(56) + b"\x02"),
        (RamKernel({"HUGETLB_PAGE_DTOR": 2}, dtor="folio"), 0, bytes(56) + b"\x02"),
        (RamKernel(), 0, bytes(56) + b"\x02"),
    ],
    ids=["type", "flag", "page", "folio", "none"],
)
def test_hugetlb(kernel: RamKernel, head: int, behind: bytes) -> None:
    """Pages of hugetlbfs are a user's, by whichever mark the kernel has."""
    kernel.set_compound(64, 64, _mapcount=head)
    at = 65 * ram.STRUCT
    for index, byte in enumerate(behind):
        kernel.structs[at + index] |= byte
    is_known = len(kernel.vmcoreinfo.splitlines()) > len(ram.NUMBERS)
    assert counts(kernel) == ({"USER": 64} if is_known else {})


@pytest.mark.parametrize("at_once", [64, 1 << 16])
def test_single_pages(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for one by one they are what they are among all, and are read once."""
    classes = "drgn_vmap.kernel.memory.page_classes"
    monkeypatch.setattr(f"{classes}._FRAMES_AT_ONCE", at_once)
    kernel = RamKernel()
    kernel.set_compound(256, 256, flags=LRU, mapping=ANON)
    kernel.set(192, _mapcount=BUDDY, private=6)
    classifier = Target(kernel.program()).page_classifier()
    asked = np.array([511, 255, 192, 191, 256], np.uint64) + np.uint64(ram.FIRST)
    expected = ["USER", "FREE", "FREE", "KERN_DATA", "USER"]
    for _ in range(2):
        found = classifier.used_for(asked)
        assert [PageClass(one).name for one in found.tolist()] == expected
        kernel.lost_structs = range(PAGES)


def run(
    kernel: RamKernel, capsys: pytest.CaptureFixture[str], *args: str
) -> Tuple[int, str, str]:
    status = run_verb("mem-usage", kernel.program(), args)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def line(out: str, name: str) -> int:
    found = re.search(rf"^{name}:?\s+(\d+)", out, re.MULTILINE)
    assert found, out
    return int(found[1])


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The document has each line of the table, and what stands below it."""
    kernel = RamKernel()
    kernel.set(0, flags=LRU)
    kernel.set(1, _mapcount=OFFLINE)
    kernel.lost_structs = range(64, 128)
    status, out, _ = run(kernel, capsys, "--json")
    found = json.loads(out)
    assert (status, found["command"], found["page_size"]) == (1, "mem-usage", 4096)
    classes = {one["type"]: one for one in found["classes"]}
    assert {name: one["pages"] for name, one in classes.items()} == {
        "ZERO": 0,
        "NON_PRI_CACHE": 1,
        "PRI_CACHE": 0,
        "USER": 0,
        "FREE": 0,
        "KERN_DATA": PAGES - 66,
    }
    kept = [name for name, one in classes.items() if not one["excludable"]]
    assert kept == ["KERN_DATA"]
    assert (found["left_out_pages"], found["unknown_pages"]) == (1, 64)
    assert found["total_pages"] == PAGES
    [problem] = found["problems"]
    assert (problem["what"], problem["where"]) == ("unreadable", "vmemmap")


@pytest.mark.parametrize("number", [-1, 64, 1 << 40, 99999999999999999999])
def test_numbers_that_cannot_be(number: int) -> None:
    """A flag that no word has is on no page, whatever VMCOREINFO says."""
    names = ("PG_swapcache", "PG_hwpoison", "PG_slab", "PG_head_mask", "PG_hugetlb")
    kernel = RamKernel({name: number for name in names})
    kernel.set(0, flags=LRU)
    kernel.set(1, flags=SWAP)
    kernel.set(2, flags=1 << ram.POISON)
    assert counts(kernel) == {"NON_PRI_CACHE": 1}


@pytest.mark.parametrize("name", ["PG_lru", "PAGE_BUDDY_MAPCOUNT_VALUE"])
def test_no_numbers(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What all kernels tell is needed; without it there is one line."""
    kernel = RamKernel()
    lines = kernel.vmcoreinfo.splitlines(True)
    kernel.vmcoreinfo = "".join(one for one in lines if f"({name})" not in one)
    said = f"vmap mem-usage: VMCOREINFO has no {name}, which this needs\n"
    assert run(kernel, capsys) == (2, "", said)


@pytest.mark.parametrize("name", sorted({*ram.OFFSETS} - {"compound"}))
def test_no_member(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is a struct page read that lacks a member."""
    monkeypatch.delitem(ram.OFFSETS, name)
    status, out, err = run(RamKernel(), capsys)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"member {name} of struct page is not known" in err


def test_struct_pages_that_make_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    """An absurd order or head is counted and named, and all the others are shown."""
    kernel = RamKernel()
    kernel.set(0, _mapcount=BUDDY, private=11)
    kernel.set(1, compound=0x1235)
    kernel.set(2, compound=kernel.address(3) | 1)
    kernel.set(3, compound=kernel.address(0) + 9)
    kernel.set(4, compound=(1 << 64) - 1)
    kernel.set(5, flags=LRU)
    status, out, err = run(kernel, capsys)
    assert status == 1
    [said] = err.splitlines()
    assert said.startswith("vmap mem-usage: corrupt: vmemmap: ")
    assert "5 struct pages make no sense" in said
    assert line(out, "NON_PRI_CACHE") == 1
    assert line(out, "KERN_DATA") == PAGES - 1


def test_missing_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """What of struct pages and of pages is not in a dump is counted apart."""
    kernel = RamKernel()
    kernel.lost_structs = range(64, 128)
    kernel.lost_pages = range(200, 203)
    status, out, err = run(kernel, capsys)
    assert status == 1
    assert "the struct pages of 64 pages cannot be read" in err
    assert line(out, "KERN_DATA") == PAGES - 64
    assert "3 pages cannot be read" in err


def test_no_ram(capsys: pytest.CaptureFixture[str]) -> None:
    """Without RAM there is one line; links that lead back or nowhere are told."""
    kernel = RamKernel()
    [resource] = kernel.resources
    kernel.memory[resource + 6 * 8] = resource
    status, out, err = run(kernel, capsys)
    assert (status, line(out, "KERN_DATA")) == (1, PAGES)
    assert f"RAM may be missing: resource {resource:#x} is there twice" in err
    kernel.memory[resource + 6 * 8] = 0xDEAD
    status, out, err = run(kernel, capsys)
    assert (status, line(out, "KERN_DATA")) == (1, PAGES)
    assert "RAM may be missing: resource 0xdead" in err
    kernel.memory[resource + 8] = 1 << 62
    status, out, err = run(kernel, capsys)
    assert (status, line(out, "KERN_DATA")) == (1, PAGES)
    assert "RAM has frames up to 0x4000000000000, nodes up to 0x10200" in err
    kernel.memory[resource + 3 * 8] = 0x80000200
    kernel.memory[resource + 6 * 8] = 0
    status, out, err = run(kernel, capsys)
    assert (status, out) == (2, "")
    [said] = err.splitlines()
    assert said.startswith("vmap mem-usage: iomem_resource has no System RAM: ")
