# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Live kernels of arm64: what other guests' tests hold of x86-64 holds there as well, with
the drgn that Debian has for it. Which kernels are tried, need() says.

6.1 carries no names of variables, so that its guest has debug info; 6.12's has none.
"""

from __future__ import annotations

from typing import Any, Iterator

import pytest

from tests.expect import check, direct
from tests.expect.listing import expect_listing_in
from tests.expect.live import expect_all_ok_in, expect_blocks_in
from tests.expect.verify import expect_verified_live
from tests.running import LIVE

from .fixture_module import load_fixture_module
from .guest import Guest
from .kernels import FOREIGN_KERNELS, LIVE_FOREIGN_KERNELS
from .machine import need
from .support import shows
from .truth import Truth


@pytest.fixture(scope="module", params=LIVE_FOREIGN_KERNELS)
def arm64_guest(request: pytest.FixtureRequest, lab: None) -> Iterator[Guest]:
    """A guest of each kernel with two NUMA nodes and the fixture module loaded."""
    kernel = FOREIGN_KERNELS[request.param]
    need(kernel)
    with Guest.boot(
        kernel.name, numa_nodes=2, debug_info=not kernel.names_itself
    ) as booted:
        load_fixture_module(booted)
        yield booted


@pytest.fixture(scope="module")
def version(arm64_guest: Guest) -> str:
    """What kernel of x86-64 has the same history."""
    return arm64_guest.kernel.name.partition("-")[0]


@pytest.fixture(scope="module")
def drgn(arm64_guest: Guest) -> str:
    """How a script starts there."""
    kernel = FOREIGN_KERNELS[arm64_guest.kernel.name]
    return f"{LIVE} --no-default-symbols" if kernel.names_itself else LIVE


@shows("live", None)
def test_ls(arm64_guest: Guest, drgn: str) -> None:
    """Byte for byte what the kernel prints, lazily freed areas among it."""
    arm64_guest.write("/proc/vmap_lab", b"lazy 3")
    expect_listing_in(arm64_guest, drgn)


def test_blocks(arm64_guest: Guest, version: str, drgn: str) -> None:
    """Each page of each block is what the module did to it."""
    expect_blocks_in(arm64_guest, version, drgn)


def test_fsck(arm64_guest: Guest, version: str, drgn: str) -> None:
    """Nothing is wrong."""
    expect_all_ok_in(arm64_guest, version, drgn)


def test_verify(arm64_guest: Guest, version: str, drgn: str) -> None:
    """Each patch, and what of the reader of blocks is wrong."""
    expect_verified_live(arm64_guest, version, drgn)


@pytest.fixture(scope="module")
def checked(arm64_guest: Guest, drgn: str) -> tuple[Any, Truth]:
    """What all pages are said to be, and what they are."""
    return check.checked_pages(arm64_guest, drgn)


def test_check(checked: tuple[Any, Truth], version: str) -> None:
    """Each page of the module's has its class, and the kernel its verdict."""
    check.expect_every_page(*checked)
    check.expect_verdict(checked[0], version)


def test_check_of_per_cpu_chunks(checked: tuple[Any, Truth]) -> None:
    """
    Their pages are as memory has them. So is the very last one here, which old kernels do
    not read: it is mapped and holds zeros, as what is read before it does.
    """
    check.expect_per_cpu_chunks(checked[0])


@pytest.fixture(scope="module")
def real_addresses(arm64_guest: Guest) -> Iterator[None]:
    """Let /proc/vmallocinfo show them."""
    with arm64_guest.real_addresses():
        yield


def test_direct(
    arm64_guest: Guest, version: str, drgn: str, real_addresses: None
) -> None:
    """drgn itself reads what the module wrote, and faults where nothing is."""
    found = direct.read_in_each_way(arm64_guest, drgn)
    direct.expect_every_page(found, version)
    direct.expect_what_others_do(found, version)
    direct.expect_what_is_not_there(found)
    direct.expect_what_was_right(found, has_chunks=True)
    direct.expect_off(found)


def test_check_through_drgn(
    arm64_guest: Guest, version: str, drgn: str, real_addresses: None
) -> None:
    """All is equal once reads are direct, and not before."""
    # Not of each area all pages: an emulated guest takes 10 ms for one.
    direct.expect_all_equal(arm64_guest, version, drgn, which="")
