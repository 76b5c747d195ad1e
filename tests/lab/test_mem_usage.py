# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap mem-usage` against makedumpfile, and against what the kernel's own lists and
page tables say.

A running guest is never quite the same: what makedumpfile says before and after bounds
what may be right in between, give or take some pages. When it saves a vmcore after a
crash, nothing moves, and each number has to be the same.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from drgn import FaultError, Program
from drgn.helpers.linux.mm import follow_phys, for_each_vmap_area

from tests.expect.memory import free_pages, numbers
from tests.running import drgn

from .guest import Guest
from .kernel import Kernel
from .vmcore import CountedPages, KdumpVmcore, Vmcore

SCRIPT = "scripts/vmap_mem_usage.py"
PAGE = 4096
VM_IOREMAP = 1
CLASSES = ("ZERO", "NON_PRI_CACHE", "PRI_CACHE", "USER", "FREE", "KERN_DATA")
TOTAL = "Total pages on system"
LISTED = "Mapped by vmalloc"
SLACK = {
    **{name: 2048 for name in CLASSES},
    **{name: 512 for name in ("NON_PRI_CACHE", "PRI_CACHE", LISTED)},
}
"""
Pages that may have moved: makedumpfile and the script have memory of their own, and what
a process frees waits in lists of its CPU, where it is kernel data, some of it zeros.
"""

#: What makedumpfile calls the classes when it reports what it left out.
REPORTED = {
    "ZERO": "Pages filled with zero",
    "NON_PRI_CACHE": "Non-private cache pages",
    "PRI_CACHE": "Private cache pages",
    "USER": "User process data pages",
    "FREE": "Free pages",
    "KERN_DATA": "Remaining pages",
}


def mem_usage(*target: object) -> str:
    """Return what the script prints of a target."""
    done = drgn(*target, SCRIPT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def with_debug_info(path: Path, kernel: Kernel) -> str:
    return mem_usage("-c", path, "-s", kernel.vmlinux)


def without_debug_info(path: Path) -> str:
    return mem_usage("-c", path, "--no-default-symbols")


def test_live_beside_makedumpfile(counted_pages: CountedPages) -> None:
    """Each class of a running kernel lies between what makedumpfile says around it."""
    answer = counted_pages.answer
    before, ours, after = (numbers(answer[x]) for x in ("before", "ours", "after"))
    for table in (before, after):
        # /proc/kcore has the kernel's image twice, and so does makedumpfile.
        for name in ("KERN_DATA", TOTAL):
            table[name] -= answer["image"]
    assert before[TOTAL] == ours[TOTAL] == after[TOTAL]
    for name in CLASSES:
        bounds, slack = sorted((before[name], after[name])), SLACK[name]
        assert bounds[0] - slack <= ours[name] <= bounds[1] + slack, (name, answer)
    assert answer["image"] > 0


def test_makedumpfile_asks_nothing_of_vread(counted_pages: CountedPages) -> None:
    """So the vm_map_ram series cannot change what it prints; drgn does ask."""
    calls = counted_pages.answer["calls"]
    assert (calls["before"], calls["after"]) == (0, 0)
    assert calls["ours"] > 0


def test_vmcore_beside_live(counted_pages: CountedPages) -> None:
    """A vmcore of that moment has the same pages, less those that moved."""
    live = numbers(counted_pages.answer["ours"])
    found = numbers(with_debug_info(counted_pages.path, counted_pages.kernel))
    assert found[TOTAL] == live[TOTAL]
    for name, slack in SLACK.items():
        assert abs(found[name] - live[name]) <= slack, (name, found, live)
    assert numbers(without_debug_info(counted_pages.path)) == found


def test_crash_beside_makedumpfile(
    kdump_vmcore: KdumpVmcore, counted_pages: CountedPages
) -> None:
    """Of the dead kernel, both say the same to the page."""
    reported = {
        name: int(number, 16)
        for name, text in REPORTED.items()
        for number in re.findall(rf"{text} *: (0x\w+)", kdump_vmcore.console)
    }
    assert set(reported) == set(CLASSES)
    found = numbers(with_debug_info(kdump_vmcore.path, kdump_vmcore.kernel))
    # /proc/vmcore has the kernel's image twice, too.
    found["KERN_DATA"] += counted_pages.answer["image"]
    assert {name: found[name] for name in CLASSES} == reported


def test_vmcore(vmcore: Vmcore) -> None:
    """FREE is what the allocator's own counts of free blocks add up to."""
    prog = Program()
    prog.set_core_dump(vmcore.path)
    prog.load_debug_info([vmcore.kernel.vmlinux])
    found = numbers(with_debug_info(vmcore.path, vmcore.kernel))
    assert found["FREE"] == free_pages(prog)
    assert sum(found[name] for name in CLASSES) == found[TOTAL]
    assert found[LISTED] == len(mapped_frames(prog))


def mapped_frames(prog: Program) -> set[int]:
    """Return the frames of all areas, by drgn's list of areas and its own page walk."""
    mm = prog["init_mm"].address_of_()
    frames = set()
    for area in for_each_vmap_area(prog):
        start, end, vm = (x.value_() for x in (area.va_start, area.va_end, area.vm))
        if vm and area.vm.flags.value_() & VM_IOREMAP:
            continue
        for address in range(start, end, PAGE):
            try:
                frames.add(follow_phys(mm, address).value_() // PAGE)
            except FaultError:
                pass
    return frames


@pytest.mark.kernels("6.12")
def test_from_outside_over_qmp(module_guest: Guest, tmp_path: Path) -> None:
    """Of a guest that stands still, drgn --qemu says what a vmcore of it does."""
    vmcore = tmp_path / "vmcore"
    with module_guest.stopped():
        module_guest.dump(vmcore)
        found = mem_usage("--qemu", module_guest.qmp_socket, "-s", module_guest.vmlinux)
    assert found == with_debug_info(vmcore, module_guest.kernel)
