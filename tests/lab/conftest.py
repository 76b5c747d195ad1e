# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Real kernels as fixtures: one boot of each serves all tests of a session.

Tests that use ``guest``, or what is made of it, run once for each of Debian's kernels, or
for those that ``@on_all_kernels`` or ``@on_built_kernels`` says; on unusual ones if
VMAP_KERNELS names them. pytest puts those of one kernel in a row: no more than one shared
guest is alive. Where two processes share the work, one of them runs all that share a guest.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator

import pytest

from . import support
from .fixture_module import load_fixture_module
from .guest import Guest
from .kernel import Kernel
from .kernels import BUILT_KERNELS, FEW_NAMES_KERNELS, KERNELS, UNUSUAL_KERNELS
from .machine import why_not
from .marks import SLOW_KERNELS
from .sh_kernel import ShKernel
from .vmcore import (
    CANARY,
    KDUMP_KERNEL,
    VMCORE_FORMATS,
    CountedPages,
    KdumpVmcore,
    Vmcore,
)

COUNTING_SECONDS = 240
CHOSEN = os.environ.get("VMAP_KERNELS", "").split()
"""The kernels to boot, if not all but unusual ones."""


# First, for what shares the work out looks at the marks in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this directory; the hook sees all that was collected."""
    items[:] = [item for item in items if is_for_its_kernel(item)]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)
            for guest in shared_guests(item):
                item.add_marker(pytest.mark.xdist_group(guest))


def is_for_its_kernel(item: pytest.Item) -> bool:
    """Whether a test is to run on the kernel it was collected for."""
    kernel, wanted = support.parameter_of(item, "guest"), item.get_closest_marker(
        "kernels"
    )
    # Some boot one of their own.
    booted = kernel or support.parameter_of(item, "kernel")
    if CHOSEN and booted not in (None, *CHOSEN):
        return False
    if booted in {**UNUSUAL_KERNELS, **FEW_NAMES_KERNELS} and booted not in CHOSEN:
        return False
    if item.get_closest_marker("slow") and booted not in (None, *SLOW_KERNELS):
        return False
    usual = (*KERNELS, *UNUSUAL_KERNELS, *CHOSEN)
    return kernel is None or kernel in (wanted.args if wanted else usual)


def shared_guests(item: pytest.Item) -> Iterator[str]:
    """Yield what a test shares with others, and is costly to make twice."""
    kernel = support.parameter_of(item, "guest")
    if kernel in BUILT_KERNELS:
        # All of them: whoever boots the first one builds the others, too.
        yield "built guests"
    elif kernel is not None:
        yield f"guest of {kernel}"
    fixtures = getattr(item, "fixturenames", ())
    for name in ("foreign_dump", "live_guest"):
        if name in fixtures:
            yield f"{name} of {support.parameter_of(item, name)}"
    if "crashing_guest" in fixtures:
        yield "crashed guest"


@pytest.fixture(scope="session", autouse=True)
def lab() -> None:
    """Skip where no guest can boot; fail there if VMAP_REQUIRE names the lab."""
    reason = why_not()
    if reason is None:
        return
    if "lab" in os.environ.get("VMAP_REQUIRE", "").split(","):
        pytest.fail(f"VMAP_REQUIRE=lab, but {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def shown_support(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the record of the run tell what a test shows to work, and on which kernel."""
    yield
    # None if the test was skipped before it got that far.
    kernels = (getattr(one, "kernel", None) for one in request.node.funcargs.values())
    for kernel in {one for one in kernels if isinstance(one, (Kernel, ShKernel))}:
        support.record(request.node, kernel)


@pytest.fixture(scope="session", params=(*KERNELS, *BUILT_KERNELS, *UNUSUAL_KERNELS))
def guest(request: pytest.FixtureRequest, lab: None) -> Iterator[Guest]:
    """A guest of each kernel, with debug information and two NUMA nodes."""
    # Twice the usual memory: under stress the module holds hundreds of MiB itself.
    with Guest.boot(request.param, memory_mib=2048, numa_nodes=2) as booted:
        yield booted


@pytest.fixture(scope="session")
def module_guest(guest: Guest) -> Guest:
    """The guest, with the fixture module loaded; a test that changes it resets it."""
    load_fixture_module(guest)
    return guest


@pytest.fixture(scope="session")
def vmcores(module_guest: Guest) -> Iterator[dict[str, Vmcore]]:
    """Vmcores of the guest by QEMU's name of the format, with lazily freed areas."""
    module_guest.write("/proc/vmap_lab", b"lazy 3")
    # A process's environment is memory of its own.
    canary = {"CANARY": CANARY.decode()}
    assert module_guest.run("sleep infinity <&- >&- 2>&- &", env=canary).status == 0
    with TemporaryDirectory(dir="/var/tmp") as directory:
        made = {}
        for format in VMCORE_FORMATS:
            path = Path(directory) / format
            vmallocinfo = module_guest.dump_with_vmallocinfo(path, format)
            truth = module_guest.read("/proc/vmap_lab")
            made[format] = Vmcore(path, module_guest.kernel, vmallocinfo, truth)
        yield made


# Of a test's scope: were it the session's, pytest would put the tests of a format in
# a row, and boot kernels again for the next one.
@pytest.fixture(params=VMCORE_FORMATS)
def vmcore(request: pytest.FixtureRequest, vmcores: dict[str, Vmcore]) -> Vmcore:
    """A vmcore of the guest in each of the formats."""
    return vmcores[request.param]


@pytest.fixture(scope="session")
def crashing_guest(lab: None) -> Iterator[Guest]:
    """A guest that can crash, with the fixture module loaded and no debug information."""
    with Guest.boot(KDUMP_KERNEL, crash_kernel=True, debug_info=False) as crashing:
        load_fixture_module(crashing)
        yield crashing


@pytest.fixture(scope="session")
def counted_pages(crashing_guest: Guest) -> Iterator[CountedPages]:
    """Its pages by class, and a vmcore of the moment they were counted."""
    huge = "/proc/sys/vm/nr_hugepages"
    crashing_guest.write(huge, b"8")
    assert crashing_guest.read(huge) == b"8\n"
    # Else thousands of pages that processes freed wait in lists of their CPUs, and go back
    # to the free ones at some moment between those that are compared.
    lists = "/proc/sys/vm/percpu_pagelist_high_fraction"
    crashing_guest.write(lists, b"100000")
    assert crashing_guest.read(lists) == b"100000\n"
    # khugepaged would move thousands of pages from where they are counted already to where
    # they are counted again. An hour.
    pause = "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs"
    crashing_guest.write(pause, b"3600000")
    assert crashing_guest.read(pause) == b"3600000\n"
    # Neither does this process give back what it frees.
    keeping = "PYTHONMALLOC=malloc MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000"
    command = f"{keeping} drgn -q -c /proc/kcore --no-default-symbols"
    script = "tests/lab/inside/count_pages.py"
    counting = crashing_guest.start(f"{command} {script}", "/tmp/counted")
    answer = crashing_guest.wait_until_said("/tmp/counted", b"\n", COUNTING_SECONDS)
    with TemporaryDirectory(dir="/var/tmp") as directory:
        vmcore = Path(directory) / "vmcore"
        crashing_guest.dump(vmcore)
        crashing_guest.interrupt(counting)
        yield CountedPages(vmcore, crashing_guest.kernel, json.loads(answer))


@pytest.fixture(scope="session")
def kdump_vmcore(
    crashing_guest: Guest, counted_pages: CountedPages
) -> Iterator[KdumpVmcore]:
    """What a crash kernel saved of one kernel that really crashed, after all else."""
    with TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory) / "vmcore"
        truth = crashing_guest.read("/proc/vmap_lab")
        vmallocinfo = crashing_guest.crash(path)
        kernel, console = crashing_guest.kernel, crashing_guest.console
        yield KdumpVmcore(path, kernel, vmallocinfo, truth, console)
