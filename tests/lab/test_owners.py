# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose areas are, as system calls, /proc and the fixture module say it."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.expect.pages import expect_lines
from tests.pages import DEFAULT_KERNEL, shown_commands
from tests.running import LIVE, drgn, on_vmcore, run_on

from .guest import Guest
from .kernels import KERNELS
from .marks import slow
from .truth import Truth
from .vmcore import Vmcore

TASKS = "for t in /proc/[0-9]*/task/*; do echo $(basename $t) $(cat $t/comm); done"
OWN_THINGS = Path(__file__).with_name("inside") / "own_things.py"


@dataclass(frozen=True)
class Owned:
    """What the kernel said of a moment, and what `vmap ls --owners` said of it."""

    things: dict[str, Any]
    tasks: dict[int, str]
    modules: set[str]
    truth: Truth
    document: dict[str, Any]
    is_deep: bool
    """Whether all of RAM was searched."""

    def owners(self, kind: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the owners of a kind, each with its area."""
        return [
            (owner, area)
            for area in self.document["areas"]
            for owner in area.get("owners", [area["owner"]] if "owner" in area else [])
            if owner["kind"] == kind
        ]


def of_vmcore(guest: Guest) -> dict[str, Any]:
    with TemporaryDirectory(dir="/var/tmp") as directory:
        vmcore = Path(directory) / "vmcore"
        guest.dump(vmcore)
        done = drgn("-c", vmcore, "scripts/vmap_ls.py", "--owners=deep", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def of_live(guest: Guest) -> dict[str, Any]:
    done = guest.run(f"{LIVE} scripts/vmap_ls.py --owners --json", timeout=300)
    assert (done.status, done.stderr) == (0, b"")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def things(module_guest: Guest) -> Iterator[dict[str, Any]]:
    """Things that a process in the guest owns, as it was told by system calls."""
    module_guest.put(OWN_THINGS, "/tmp/own_things.py")
    owning = module_guest.start("python3 /tmp/own_things.py", "/tmp/owned")
    told = module_guest.wait_until_said("/tmp/owned", b"\n")
    module_guest.write("/proc/vmap_lab", b"plant")
    yield json.loads(told)
    module_guest.write("/proc/vmap_lab", b"plant 0")
    module_guest.interrupt(owning)


@pytest.fixture(params=[of_live, of_vmcore])
def owned(
    request: pytest.FixtureRequest, module_guest: Guest, things: dict[str, Any]
) -> Owned:
    lines = module_guest.run(TASKS).stdout.decode().splitlines()
    return Owned(
        things,
        {int(pid): comm for pid, _, comm in (line.partition(" ") for line in lines)},
        {
            line.split()[0]
            for line in module_guest.read("/proc/modules").decode().splitlines()
        },
        Truth.parse(module_guest.read("/proc/vmap_lab").decode()),
        request.param(module_guest),
        request.param is of_vmcore,
    )


@slow
@pytest.mark.kernels(*KERNELS)
def test_owners(owned: Owned) -> None:
    """
    Tasks, modules, BPF and files, as /proc and system calls say; what the module has is
    nobody's, or that of the objects in which it notes it down.
    """
    assert_tasks(owned)
    assert {owner["name"] for owner, _ in owned.owners("module")} == owned.modules
    assert_bpf(owned)
    assert (owned.things["pid"], owned.things["comm"]) in {
        (owner["id"], owner["name"])
        for owner, area in owned.owners("fdtable")
        if area["size"] > 4 << 20
    }
    hashes = {owner["name"] for owner, _ in owned.owners("variable")}
    assert "dentry_hashtable" in hashes
    # What the module holds is pointed at from objects of its own only.
    own = {hex(m.address) for m in owned.truth.mappings if m.live and m.area == "own"}
    areas = [area for area in owned.document["areas"] if area["start"] in own]
    told = [area.get("owner", {"kind": None}) for area in areas]
    expected = "slab" if owned.is_deep else None
    assert [owner for owner in told if owner["kind"] != expected] == []
    assert_no_owner_is_wrong(owned)


@pytest.mark.kernels(*KERNELS)
def test_no_data_is_given_back(guest: Guest) -> None:
    """
    Variables are looked for in what the kernel has itself: of its image it gives back a part
    when it has booted, where anybody's pointers are.
    """
    done = guest.run(f"{LIVE} tests/lab/inside/image_pages.py", timeout=300)
    assert (done.status, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert found["pages"] > 2000 and found["given_back"] == []


@pytest.mark.kernels(*KERNELS)
def test_sums(module_guest: Guest, things: dict[str, Any]) -> None:
    """Per-CPU memory is what /proc/meminfo says, and compiled programs have a limit."""
    before = percpu_kib(module_guest)
    done = module_guest.run(f"{LIVE} scripts/vmap_top.py --by owner --json")
    assert (done.status, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    page_kib = 4
    assert found["percpu"]["verdict"] == "equal"
    kib = page_kib * found["percpu"]["counted_pages"]
    assert kib in (before, percpu_kib(module_guest))
    assert 0 < found["bpf_jit"]["bytes"] < found["bpf_jit"]["limit"]
    limit = module_guest.run("cat /proc/sys/net/core/bpf_jit_limit").stdout
    # 7.3 of the lab has no such files.
    assert limit in (b"", b"%d\n" % found["bpf_jit"]["limit"])
    largest = [row["key"] for row in found["rows"][:3]]
    report = f"{LIVE} scripts/vmap_report.py --owners --format text -o -"
    text = module_guest.run(report).stdout.decode()
    assert "By owner" in text and all(key in text for key in largest)


@pytest.mark.kernels(*KERNELS)
def test_openmetrics(vmcores: dict[str, Vmcore]) -> None:
    """A conformant parser finds as many areas of each task and module as ls lists."""
    vmcore = vmcores["elf"]
    top = ("scripts/vmap_top.py", "--by", "owner", "--openmetrics")
    text = run_on(vmcore, *top)
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    gauges = {family.name: family.samples for family in families}
    told = {one.labels["owner"]: one.value for one in gauges["vmap_owner_areas"]}
    areas = on_vmcore(vmcore, "ls", "--owners")["areas"]
    alone = [area["owner"] for area in areas if "owner" in area if "owners" not in area]
    listed = Counter(
        f"{one['kind']} {one['name']}"
        for one in alone
        if one["kind"] in ("task", "module")
    )
    assert listed and listed.items() <= told.items()
    busy = [area for area in areas if area["state"] == "busy"]
    [total] = gauges["vmap_areas"]
    assert total.value == sum(told.values()) == len(busy)


@pytest.mark.kernels(DEFAULT_KERNEL)
def test_stories(module_guest: Guest, things: dict[str, Any]) -> None:
    """What the pages tell of owners is what a kernel answers that has these things."""
    shown = [one for one in shown_commands("vmap") if one.page == "owners.md"]
    assert len(shown) >= 3
    for one in shown:
        verb, *rest = one.words[1:]
        if "-n" in rest:
            # The largest ones may be others.
            rest[rest.index("-n") + 1] = "0"
        done = module_guest.run(f"{LIVE} scripts/vmap_{verb}.py {shlex.join(rest)}")
        assert (done.status, done.stderr) == (0, b"")
        expect_lines(one, done.stdout.decode())


def percpu_kib(guest: Guest) -> int:
    """Return Percpu of /proc/meminfo."""
    lines = guest.read("/proc/meminfo").decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Percpu:"))


def assert_tasks(owned: Owned) -> None:
    """Each task has the stack that its PID says, and comes but once."""
    told = {owner["id"]: owner["name"] for owner, _ in owned.owners("task")}
    assert len(told) == len(owned.owners("task"))
    common = told.keys() & owned.tasks.keys()
    # The processes that list them, and ask, come and go, and one is dead.
    assert len(common) > len(owned.tasks) - 5 and len(common) > len(told) - 4
    for pid in common:
        # Of kernel workers /proc tells more than the comm, which ends after 15 bytes.
        assert owned.tasks[pid].startswith(told[pid].partition("/")[0]), (
            pid,
            told[pid],
        )
    for owner, area in owned.owners("task"):
        assert area["kinds"] == ["vmalloc"] and owner["proof"] == "task_struct.stack"


def assert_no_owner_is_wrong(owned: Owned) -> None:
    """What only seems to point at an area is not told, unless nothing tells it apart."""
    areas = owned.document["areas"]
    assert not [area for area in areas if "owner" in area and area["state"] != "busy"]
    exited = owned.things["exited"]
    assert exited in owned.tasks
    for kind in ("task", "fdtable"):
        assert exited not in {owner["id"] for owner, _ in owned.owners(kind)}
    told: dict[str, set[tuple[str, str]]] = {name: set() for name in owned.truth.plants}
    for name, address in owned.truth.plants.items():
        [area] = [area for area in areas if area["start"] == hex(address)]
        for owner in area.get("owners", [area["owner"]] if "owner" in area else []):
            told[name].add((owner["kind"], owner["name"]))
    in_slab = {("slab", "vmap_lab_plant")} if owned.is_deep else set()
    # Of a variable, nothing tells whether it is from an area that was there before.
    assert told == {
        "nobody": set(),
        "variable": {("variable", "vmap_lab_pointer [vmap_lab]")},
        "object": in_slab,
        "freed-object": set(),
        "freed-page": set(),
        "reused": {("variable", "vmap_lab_reused_pointer [vmap_lab]"), *in_slab},
    }


def assert_bpf(owned: Owned) -> None:
    """Programs and maps have the names, IDs and tags that system calls tell."""
    programs = owned.owners("bpf-program")
    for one in owned.things["programs"]:
        mine = [owner for owner, _ in programs if owner["id"] == one["id"]]
        assert {owner["name"] for owner in mine} == {one["name"]}
        assert all(f"tag {one['tag']}" in owner["detail"] for owner in mine)
        assert any("compiled code" in owner["detail"] for owner in mine)
    maps = {(owner["id"], owner["name"]) for owner, _ in owned.owners("bpf-map")}
    assert maps >= {(one["id"], one["name"]) for one in owned.things["maps"]}
