# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Machines that the other guests are not: `ls` byte for byte, live and of a vmcore without
debug info, `fsck`, `check`, `verify` and direct reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from tests.expect.direct import expect_all_equal
from tests.expect.listing import expect_listing_in
from tests.expect.live import expect_all_ok_in
from tests.expect.verify import expect_verified_live
from tests.running import drgn

from .fixture_module import load_fixture_module
from .guest import Guest
from .other_machines import MACHINES
from .support import shows

TRIED = (
    ("7.3", "5-level page tables"),
    ("7.3", "hotplugged memory"),
    ("6.12", "call thunks"),
    ("6.12", "debugged slab caches"),
    # Newer ones have no more CPUs than the firmware says can come: QEMU's says none.
    ("5.10", "300 possible CPUs"),
    # Which CPU has a block follows from how many there may be, each in another way.
    ("6.1-v6.5", "2 of 4 CPUs"),
    ("6.1-gki66", "2 of 4 CPUs"),
)


@pytest.fixture
def other(kernel: str, machine: str) -> Iterator[Guest]:
    """A guest that is such a machine, with the fixture module loaded."""
    made = MACHINES[machine]
    with Guest.boot(kernel, append=made.append, qemu=made.qemu) as booted:
        assert booted.run(made.shown_by).status == 0
        load_fixture_module(booted)
        yield booted


@shows("live", "DWARF")
@shows("ELF", "BTF")
@pytest.mark.parametrize("kernel, machine", TRIED)
def test_machine(kernel: str, machine: str, other: Guest, tmp_path: Path) -> None:
    """All of it is as on any other machine."""
    expect_listing_in(other)
    expect_all_ok_in(other, kernel)
    expect_all_equal(other, kernel)
    expect_verified_live(other, kernel)
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
