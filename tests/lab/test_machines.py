# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Machines that people have and the other guests are not: `ls` byte for byte, live and of a
vmcore without debug info, `fsck`, `check`, and direct reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import pytest

from tests.expect.listing import expect_listing_in
from tests.expect.live import expect_all_ok_in
from tests.running import LIVE, drgn

from .fixture_module import load_fixture_module
from .guest import Guest
from .kernels import KERNELS
from .marks import slow
from .support import shows

CHECK = "scripts/vmap_direct.py scripts/vmap_check.py --through drgn --all-pages --json"


@dataclass(frozen=True)
class Machine:
    """What is different, and how the kernel itself says that it is so."""

    shown_by: str
    """A command that succeeds there, and on no other guest."""

    append: str = ""
    qemu: tuple[str, ...] = ()


MACHINES = {
    "5-level page tables": Machine(
        shown_by="grep -q la57 /proc/cpuinfo",
        qemu=("-cpu", "max,la57=on"),
    ),
    "300 possible CPUs": Machine(
        shown_by="grep -qx 0-299 /sys/devices/system/cpu/possible",
        append="possible_cpus=300",
    ),
    "hotplugged memory": Machine(
        shown_by="grep -q DIMM0 /sys/firmware/acpi/tables/DSDT && "
        "awk '/^MemTotal/ { exit $2 < 1200000 }' /proc/meminfo",
        append="memhp_default_state=online",
        qemu=(
            *("-m", "slots=1,maxmem=4G", "-device", "pc-dimm,memdev=more"),
            *("-object", "memory-backend-ram,id=more,size=512M"),
        ),
    ),
}


@pytest.fixture
def other(kernel: str, machine: str) -> Iterator[Guest]:
    """A guest that is such a machine, with the fixture module loaded."""
    made = MACHINES[machine]
    with Guest.boot(kernel, append=made.append, qemu=made.qemu) as booted:
        assert booted.run(made.shown_by).status == 0
        load_fixture_module(booted)
        yield booted


@slow
@shows("live", "DWARF")
@shows("ELF", "BTF")
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_machine(kernel: str, machine: str, other: Guest, tmp_path: Path) -> None:
    """All of it is as on any other machine."""
    expect_listing_in(other)
    expect_all_ok_in(other, kernel)
    done = other.run(f"{LIVE} {CHECK}", timeout=600)
    assert done.status in (0, 1), done.stderr.decode()
    totals = json.loads(done.stdout)["totals"]
    assert set(totals["vm_map_ram"]) == {"equal"}
    assert set(totals["vmap_block"]) == {"equal", "unmapped-fault"}
    vmcore = tmp_path / "vmcore"
    other.write("/proc/vmap_lab", b"lazy 3")
    listed = other.dump_with_vmallocinfo(vmcore)
    told = drgn(
        *("-c", vmcore, "--no-default-symbols"),
        *("scripts/vmap_ls.py", "--pointers", "auto"),
    )
    vmcore.unlink()
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == listed.decode()
