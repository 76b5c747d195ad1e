# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap ls` against what the kernel itself says: /proc/vmallocinfo, read just then or
just before the dump, and the fixture module's own list.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.expect.areas import KINDS, expect_kinds
from tests.expect.listing import expect_listing_in
from tests.running import LIVE, drgn, target_of

from .guest import VMALLOCINFO, Guest
from .kernels import KERNELS
from .marks import on_built_kernels, slow
from .stress import RUNS, runs_under_stress
from .support import shows
from .truth import Truth
from .vmcore import Vmcore

LS = "scripts/vmap_ls.py"
KPTR_RESTRICT = "/proc/sys/kernel/kptr_restrict"

# Each process has a kernel stack, and it comes and goes with the process. These
# functions are the callers of such lines, on one kernel or another.
PROCESS = re.compile(r" (kernel_clone|dup_task_struct|copy_process|_do_fork)\+")


@shows("live", "DWARF")
def test_live_with_every_kind_of_area(module_guest: Guest) -> None:
    """Byte for byte, with the module's areas and lazily freed ones among them."""
    module_guest.write("/proc/vmap_lab", b"lazy 3")
    expect_listing_in(module_guest)
    text = module_guest.read(VMALLOCINFO).decode()
    for label in (" vmalloc", " vmap", " ioremap", " user", " vpages", " vm_map_ram\n"):
        assert label in text


@on_built_kernels
@shows("live", "DWARF")
def test_live_on_built_kernels(module_guest: Guest) -> None:
    """Byte for byte on 6.1 with the vm_map_ram series, too."""
    expect_listing_in(module_guest)


@pytest.mark.parametrize("cpus, numa_nodes", [(1, 1), (4, 2)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_live_on_other_machines(kernel: str, cpus: int, numa_nodes: int) -> None:
    """Byte for byte on one CPU, where 6.9 and later have one node only, and on four."""
    with Guest.boot(kernel, cpus=cpus, numa_nodes=numa_nodes) as guest:
        expect_listing_in(guest)


def test_live_as_a_process_of_its_own(module_guest: Guest) -> None:
    """
    What drgn's command line prints: each line stood in the file at some moment
    while it ran, and each that stood there all the while is printed, in order.
    """
    # With real addresses no two lines are the same.
    module_guest.write(KPTR_RESTRICT, b"1")
    result = module_guest.run(
        f"{LIVE} {LS} --pointers auto", timeout=300, sample=VMALLOCINFO
    )
    module_guest.write(KPTR_RESTRICT, b"0")
    assert result.status == 0
    assert result.stderr == b""
    samples = [sample.decode().splitlines() for sample in result.samples]
    printed = result.stdout.decode().splitlines()
    ever = {line for sample in samples for line in sample}
    always = set(samples[0]).intersection(*samples)
    assert [line for line in printed if line not in ever] == []
    stable = [line for line in samples[0] if line in always]
    assert len(stable) > 50
    assert [line for line in printed if line in always] == stable


@shows(None, "DWARF")
def test_vmcore(vmcore: Vmcore) -> None:
    """A vmcore lists what the file held when the guest was dumped, byte for byte."""
    result = drgn(*target_of(vmcore), LS, "--pointers", "auto")
    assert result.stderr == ""
    assert result.returncode == 0
    assert result.stdout == vmcore.vmallocinfo.decode()
    assert " unpurged vm_area\n" in result.stdout or vmcore.kernel.name == "5.10"


def test_vmcore_of_a_crash(kdump_vmcore: Vmcore) -> None:
    """
    What a crash kernel saved, with free and user pages excluded. Only the stacks of
    processes may differ from the file, as the crash was started by one.
    """
    raw = drgn(*target_of(kdump_vmcore), LS, "--pointers", "auto")
    assert raw.returncode == 0, raw.stderr
    printed = set(raw.stdout.splitlines())
    saved = set(kdump_vmcore.vmallocinfo.decode().splitlines())
    assert len(saved & printed) > 100
    for line in saved ^ printed:
        assert PROCESS.search(line) or line.endswith("unpurged vm_area"), line


@shows("QMP", "DWARF")
def test_from_outside_over_qmp(module_guest: Guest) -> None:
    """drgn --qemu lists a running guest, byte for byte what the guest itself does."""
    target = ["--qemu", module_guest.qmp_socket, "-s", module_guest.vmlinux]
    for _ in range(5):
        before = module_guest.read(VMALLOCINFO)
        result = drgn(*target, LS, "--pointers", "auto")
        if module_guest.read(VMALLOCINFO) == before:
            break
    assert result.returncode == 0, result.stderr
    assert result.stdout == before.decode()


def areas_of(vmcore: Vmcore, *args: str) -> list[dict[str, object]]:
    """Return the areas as ``--json`` has them."""
    result = drgn(*target_of(vmcore), LS, "--json", *args)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["problems"] == []
    areas: list[dict[str, object]] = document["areas"]
    return areas


def test_kinds_against_the_module(vmcore: Vmcore) -> None:
    """Each live mapping lies in an area of the kind that it was made as."""
    expect_kinds(areas_of(vmcore), Truth.parse(vmcore.truth.decode()))


def test_other_states(vmcore: Vmcore) -> None:
    """--all covers the address space: nothing overlaps, whatever its state."""
    areas = areas_of(vmcore, "--all", "--sort", "address")
    assert {"busy", "lazy", "free"} <= {area["state"] for area in areas}
    ends = [int(str(area["end"]), 16) for area in areas]
    starts = [int(str(area["start"]), 16) for area in areas]
    assert all(end <= start for end, start in zip(ends, starts[1:]))


@pytest.mark.parametrize("sixteenths", [8, 15])
def test_part_of_a_vmcore(vmcore: Vmcore, tmp_path: Path, sixteenths: int) -> None:
    """What is there is listed as it was, and the rest is said to be missing."""
    path = tmp_path / "part"
    size = vmcore.path.stat().st_size * sixteenths // 16
    with vmcore.path.open("rb") as whole, path.open("wb") as part:
        part.write(whole.read(size))
    result = drgn("-c", path, "-s", vmcore.kernel.vmlinux, LS, "--pointers", "auto")
    path.unlink()
    if "prog.set_core_dump(" in result.stderr:
        # drgn itself opens no part of this format.
        assert vmcore.path.name == "kdump-zlib"
        assert (result.returncode, result.stdout) == (1, "")
        assert LS not in result.stderr
        return
    whole_text = vmcore.vmallocinfo.decode()
    # Nothing that is needed may have been in the rest.
    if result.returncode == 0:
        assert (result.stdout, result.stderr) == (whole_text, "")
        return
    told = result.stderr.splitlines()
    assert told and [line for line in told if not line.startswith("vmap ls: ")] == []
    if result.returncode == 2:
        assert (result.stdout, len(told)) == ("", 1)
        return
    assert result.returncode == 1
    listed, whole_lines = result.stdout.splitlines(), whole_text.splitlines()
    assert 0 < len(listed) <= len(whole_lines)
    cut = re.compile(r" N\d+=.*$| 0x[0-9a-f]{16}.*$| [\w.]+\+0x.*$")
    prefixes = {cut.sub("", line) for line in whole_lines}
    for line in set(listed) - set(whole_lines):
        assert cut.sub("", line.replace(" vm_struct unreadable", "")) in prefixes, line


def test_not_root(guest: Guest) -> None:
    """Without the right to read /proc/kcore drgn says so, before a script runs."""
    command = f"setpriv --reuid 65534 --clear-groups {LIVE} {LS}"
    result = guest.run(command, timeout=120)
    assert result.status == 1
    assert result.stdout == b""
    assert b"Permission denied" in result.stderr
    assert b"Traceback" not in result.stderr


@slow
def test_while_areas_come_and_go(module_guest: Guest) -> None:
    """
    Under stress each run ends well and lists what is there to stay: all of it, or
    nearly so if the run says that areas changed while it read them. All runs together
    miss no more than one in twenty.
    """
    text = module_guest.read("/proc/vmap_lab").decode()
    stay = [
        f"0x{mapping.address:016x}-"
        for mapping in Truth.parse(text).mappings
        if mapping.live and mapping.kind in KINDS
    ]
    assert len(stay) > 10
    line_form = re.compile(r"0x[0-9a-f]{16}-0x[0-9a-f]{16} [ \d]{6,}\d(?: [^\s]+)+")
    lost = []
    for status, out, err in runs_under_stress(module_guest, "ls"):
        assert status == 0
        assert "Traceback" not in err
        lines = out.splitlines()
        assert [line for line in lines if not line_form.fullmatch(line)] == []
        missing = [start for start in stay if start not in out]
        assert len(missing) <= (len(stay) // 4 if "racing" in err else 0), missing
        lost += missing
        assert all(
            line.startswith("vmap ls: racing: ") or "more, see --json" in line
            for line in err.splitlines()
        )
    assert len(lost) <= RUNS * len(stay) // 20, lost
