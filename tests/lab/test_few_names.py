# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kernels without CONFIG_KALLSYMS_ALL carry names of code and none of variables, and those
without CONFIG_KALLSYMS none at all, for which they print addresses: with debug info they are
as others, and without it a line says what to do.
"""

from __future__ import annotations

from typing import Iterator

import pytest

from drgn_vmap.commands import WITHOUT_TYPES
from tests.expect.listing import expect_listing_in
from tests.running import LIVE, command, drgn, target_of

from .fixture_module import load_fixture_module
from .guest import Guest
from .kernels import FEW_NAMES_KERNELS
from .support import shows
from .vmcore import Vmcore

VERBS = ("ls", "blocks", "fsck", "top", "gaps", "verify")


@pytest.fixture(scope="module", params=FEW_NAMES_KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    """Each of them."""
    return str(request.param)


@pytest.fixture(scope="module")
def named(kernel: str) -> Iterator[Guest]:
    """A guest of it, with debug information and the fixture module."""
    with Guest.boot(kernel) as guest:
        load_fixture_module(guest)
        yield guest


@pytest.fixture(scope="module")
def vmcore(named: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vmcore]:
    """A vmcore of it."""
    path = tmp_path_factory.mktemp("dump") / "vmcore"
    vmallocinfo = named.dump_with_vmallocinfo(path)
    yield Vmcore(path, named.kernel, vmallocinfo, named.read("/proc/vmap_lab"))
    path.unlink()


@shows("live", "DWARF")
def test_live(named: Guest) -> None:
    """Byte for byte, for each value of kptr_restrict."""
    expect_listing_in(named)


@shows("ELF", "DWARF")
def test_vmcore(vmcore: Vmcore) -> None:
    """A vmcore lists what the file held, byte for byte."""
    done = drgn(*target_of(vmcore), "scripts/vmap_ls.py", "--pointers", "auto")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == vmcore.vmallocinfo.decode()


@pytest.mark.parametrize("verb", VERBS)
def test_without_debug_info(vmcore: Vmcore, named: Guest, verb: str) -> None:
    """
    One line says why there are no names, and where to get them. Of a vmcore, ls and top also
    show where areas are that are found by their looks.
    """
    bare = f"{LIVE} --no-default-symbols scripts/vmap_{verb}.py"
    live = named.run(bare, timeout=300)
    assert (live.status, live.stdout) == (2, b"")
    of_vmcore = command(verb, "-c", vmcore.path)
    by_looks = verb in WITHOUT_TYPES
    assert of_vmcore.returncode == (1 if by_looks else 2)
    assert bool(of_vmcore.stdout) == by_looks
    for first, *others in (
        live.stderr.decode().splitlines(),
        of_vmcore.stderr.splitlines(),
    ):
        assert "CONFIG_KALLSYMS" in first and "debug info" in first
        assert bool(others) == (
            by_looks and first.startswith(f"vmap {verb}: unreadable")
        )
