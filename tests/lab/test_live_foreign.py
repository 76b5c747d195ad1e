# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Live kernels of other architectures: what other guests' tests hold of x86-64 holds there as
well, with the drgn that Debian has for them. Which kernels are tried, need() says.

6.1 carries no names of variables, so that its guest has debug info; those of 6.12 have none.
"""

from __future__ import annotations

import json
from typing import Any, Iterator

import pytest

from tests.expect import check, direct
from tests.expect.listing import expect_listing_in
from tests.expect.live import expect_all_ok_in, expect_blocks_in
from tests.expect.verify import ELSEWHERE, WITH, expect_verified_live, verdicts
from tests.running import LIVE

from .architecture import PPC64EL, RISCV64, S390X
from .fixture_module import load_fixture_module
from .guest import Guest
from .kernels import FOREIGN_KERNELS, LIVE_FOREIGN_KERNELS, WITH_TAGS, WITHOUT_KCORE
from .machine import need
from .support import shows
from .truth import Truth

POWERPC = ["yes", "not-applicable"]
"""Of patches 6 and 7 in 6.12."""


@pytest.fixture(scope="module", params=LIVE_FOREIGN_KERNELS)
def live_guest(request: pytest.FixtureRequest, lab: None) -> Iterator[Guest]:
    """A guest of each kernel, with two NUMA nodes if it can, and the fixture module."""
    kernel = FOREIGN_KERNELS[request.param]
    need(kernel)
    with Guest.boot(
        kernel.name,
        numa_nodes=kernel.architecture.nodes,
        debug_info=not kernel.names_itself,
    ) as booted:
        load_fixture_module(booted)
        yield booted


@pytest.fixture(scope="module")
def version(live_guest: Guest) -> str:
    """What kernel of x86-64 has the same history."""
    return live_guest.kernel.name.partition("-")[0]


@pytest.fixture(scope="module")
def drgn(live_guest: Guest) -> str:
    """How a script starts there."""
    kernel = FOREIGN_KERNELS[live_guest.kernel.name]
    return f"{LIVE} --no-default-symbols" if kernel.names_itself else LIVE


@pytest.fixture(scope="module")
def read_by_kcore(live_guest: Guest) -> None:
    """See that its /proc/kcore has vmalloc space where it can be read."""
    if live_guest.kernel.architecture == RISCV64:
        pytest.skip("riscv's has it below offset 0, see test_unreadable_kcore")


@shows("live", None)
def test_ls(live_guest: Guest, drgn: str) -> None:
    """Byte for byte what the kernel prints, lazily freed areas among it."""
    live_guest.write("/proc/vmap_lab", b"lazy 3")
    hashed = live_guest.run("python3 -c 'import siphash24'").status == 0
    expect_listing_in(live_guest, drgn, hashed)


def test_blocks(live_guest: Guest, version: str, drgn: str) -> None:
    """Each page of each block is what the module did to it."""
    expect_blocks_in(live_guest, version, drgn)


def test_fsck(live_guest: Guest, version: str, drgn: str) -> None:
    """Nothing is wrong."""
    expect_all_ok_in(live_guest, version, drgn)


def test_verify(
    live_guest: Guest, version: str, drgn: str, read_by_kcore: None
) -> None:
    """Each patch, and what of the reader of blocks is wrong."""
    elsewhere = POWERPC if live_guest.kernel.architecture == PPC64EL else ELSEWHERE
    expect_verified_live(live_guest, version, drgn, elsewhere)


@pytest.fixture(scope="module")
def checked(live_guest: Guest, drgn: str, read_by_kcore: None) -> tuple[Any, Truth]:
    """What all pages are said to be, and what they are."""
    return check.checked_pages(live_guest, drgn)


def test_check(checked: tuple[Any, Truth], version: str) -> None:
    """Each page of the module's has its class, and the kernel its verdict."""
    check.expect_every_page(*checked)
    check.expect_verdict(checked[0], version)


def test_check_of_per_cpu_chunks(live_guest: Guest, checked: tuple[Any, Truth]) -> None:
    """
    Their pages are as memory has them. So is the very last one here, which old kernels do
    not read: it is mapped and holds zeros, as what is read before it does.
    """
    check.expect_per_cpu_chunks(checked[0], full=has_full_chunks(live_guest))


def has_full_chunks(guest: Guest) -> bool:
    """
    Whether some per-CPU chunks have pages up to their ends. Nothing here fills PowerPC's,
    and those with tags are of 19 pages, where what fills them takes 4 at once; chunks that
    are left over may have no pages at all.
    """
    return guest.kernel.architecture != PPC64EL and guest.kernel.name != WITH_TAGS


@pytest.fixture(scope="module")
def real_addresses(live_guest: Guest, read_by_kcore: None) -> Iterator[None]:
    """Let /proc/vmallocinfo show them."""
    with live_guest.real_addresses():
        yield


def test_direct(
    live_guest: Guest, version: str, drgn: str, real_addresses: None
) -> None:
    """drgn itself reads what the module wrote, and faults where nothing is."""
    found = direct.read_in_each_way(live_guest, drgn)
    direct.expect_every_page(found, version)
    direct.expect_what_others_do(found, version)
    architecture = live_guest.kernel.architecture
    # Channel I/O maps no registers.
    direct.expect_what_is_not_there(found, has_devices=architecture != S390X)
    direct.expect_what_was_right(live_guest, found, has_full_chunks(live_guest))
    direct.expect_off(found)


def test_check_through_drgn(
    live_guest: Guest, version: str, drgn: str, real_addresses: None
) -> None:
    """All is equal once reads are direct, and not before."""
    # Not of each area all pages: an emulated guest takes 10 ms for one.
    direct.expect_all_equal(live_guest, version, drgn, which="")


def test_unreadable_kcore(live_guest: Guest, drgn: str) -> None:
    """Nothing is said of what /proc/kcore does not let be read; direct reads read all."""
    if live_guest.kernel.architecture != RISCV64:
        pytest.skip("only riscv's /proc/kcore has vmalloc space below offset 0")
    found = direct.run(live_guest, "scripts/vmap_check.py --json", drgn)
    for kind in ("vm_map_ram", "vmap_block"):
        assert "unreadable" in found["totals"][kind]
        assert set(found["totals"][kind]) <= {"unreadable", "unmapped-fault"}
        assert found["verdict"][kind] == "none-found"
    done = live_guest.run(f"{drgn} scripts/vmap_verify.py --json", timeout=300)
    expected = [*WITH, "yes", "yes", *ELSEWHERE]
    assert verdicts(json.loads(done.stdout)) == expected
    direct.expect_equal_at_last(live_guest, drgn, which="")


SAVED = "/tmp/saved"


def test_without_kcore(lab: None) -> None:
    """On 32-bit Arm one line says what is missing, and a copy of the text is read."""
    kernel = FOREIGN_KERNELS[WITHOUT_KCORE]
    need(kernel)
    with Guest.boot(kernel.name, numa_nodes=1, debug_info=False) as guest:
        load_fixture_module(guest)
        done = guest.run("python3 -m drgn_vmap ls")
        assert (done.status, done.stdout) == (2, b"")
        [line] = done.stderr.decode().splitlines()
        assert line.startswith("vmap ls: this machine has no /proc/kcore")
        saved = guest.run(f"cat /proc/vmallocinfo | tee {SAVED}").stdout
        for verb in ("ls", "top", "top --by node", "report -o -", "ls --json"):
            done = guest.run(f"python3 -m drgn_vmap {verb} --from {SAVED}", timeout=120)
            assert (done.status, done.stderr) == (0, b""), verb
            assert verb != "ls" or done.stdout == saved
