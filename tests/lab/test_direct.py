# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Direct reads: on each kernel, drgn itself reads what the fixture module wrote, where its
/proc/kcore returns zeros or another page.
"""

from __future__ import annotations

import json
from typing import Any, Iterator

import pytest

from .guest import Guest
from .kernels import KERNELS
from .marks import on_all_kernels, slow
from .stress import stress
from .truth import Truth

pytestmark = on_all_kernels

READS = "tests/lab/inside/direct_reads.py"
STRESS_SECONDS = 10
KPTR_RESTRICT = "/proc/sys/kernel/kptr_restrict"
#: Built with the patches of contrib/linux/: these need no cure.
FIXED = {"6.1-fixed"}
PLUGIN = {"DRGN_PLUGINS": "drgn_vmap=drgn_vmap.plugin", "PYTHONPATH": "/vmap"}
SECONDS = 300.0


def run(guest: Guest, script: str, **env: str) -> Any:
    command = f"drgn -q -c /proc/kcore {script}"
    done = guest.run(command, timeout=SECONDS, env=env)
    assert done.status in (0, 1), done.stderr.decode()
    assert done.stderr == b""
    return json.loads(done.stdout)


@pytest.fixture(scope="module", autouse=True)
def real_addresses(module_guest: Guest) -> Iterator[None]:
    """Let /proc/vmallocinfo show them."""
    before = module_guest.read(KPTR_RESTRICT)
    module_guest.write(KPTR_RESTRICT, b"1")
    yield
    module_guest.write(KPTR_RESTRICT, before)


@pytest.fixture(scope="module")
def found(module_guest: Guest) -> Any:
    """What each way of reading made of the module's mappings."""
    module_guest.write("/proc/vmap_lab", b"reset")
    try:
        return run(module_guest, READS)
    finally:
        # What was poked is no page of the module's any more.
        module_guest.write("/proc/vmap_lab", b"reset")


def test_every_page(found: Any, module_guest: Guest) -> None:
    """Each page of each mapping comes back as the module wrote it; few did before."""
    direct, before = found["direct"], found["before"]
    pages = {"ram": before["ram"], "others": before["others"]}
    for kind, counts in pages.items():
        total = sum(counts.values())
        assert direct[kind] == {"right": total, "wrong": 0, "fault": 0}
    assert sum(direct["ram"].values()) > 900
    if module_guest.kernel.name not in FIXED:
        assert before["ram"]["wrong"] > 300
    assert found["at once"] == found["mappings"] > 40


def test_what_others_do(found: Any, module_guest: Guest) -> None:
    """A list, a struct and a string in a block are right for drgn's own helpers."""
    nodes, text = found["poked"]["nodes"], found["poked"]["text"]
    right = {
        "list": nodes[1:],
        "struct": "(struct timespec64){\n"
        "\t.tv_sec = (time64_t)1234567890,\n"
        "\t.tv_nsec = (long)987654321,\n}",
        "string": text,
    }
    assert {name: found["direct"][name] for name in right} == right
    if module_guest.kernel.name not in FIXED:
        assert not any(found["before"][name] == right[name] for name in right)


def test_what_is_not_there(found: Any) -> None:
    """What was freed is a fault, and so is a device's memory."""
    assert list(found["gone"]) == ["FaultError"] and found["gone"]["FaultError"] > 50
    assert set(found["devices"]) == {"FaultError"}


def test_what_was_right(found: Any) -> None:
    """Modules are as before, and per-CPU memory as memory has it, to its last page."""
    assert found["direct"]["module"] == found["before"]["module"]
    assert set(found["per-CPU"]) <= {"like memory", "fault"}
    assert found["per-CPU"]["like memory"] > 0


def test_off(found: Any) -> None:
    """Once off, all is as it was, and once on again, as before that."""
    assert found["off"] == found["before"]
    assert found["on again"]


@slow
def test_check(module_guest: Guest) -> None:
    """check --through drgn finds all equal once reads are direct, and not before."""
    check = "scripts/vmap_check.py --through drgn --all-pages --json"
    found = run(module_guest, f"scripts/vmap_direct.py {check}")
    assert {"vm_map_ram", "vmap_block"} <= set(found["totals"])
    classes = {one for total in found["totals"].values() for one in total}
    assert classes <= {"equal", "unmapped-fault", "by-design", "unreadable", "raced"}
    assert set(found["totals"]["vm_map_ram"]) == {"equal"}
    assert set(found["totals"]["vmap_block"]) == {"equal", "unmapped-fault"}
    # From the start, by drgn's hook for new programs.
    blocks = check.replace("--all-pages", "--kind vmap_block")
    hooked = run(module_guest, blocks, DRGN_VMAP_DIRECT="1", **PLUGIN)
    assert hooked["totals"]["vmap_block"] == found["totals"]["vmap_block"]
    plain = run(module_guest, blocks, **PLUGIN)
    fixed = module_guest.kernel.name in FIXED
    assert (plain["verdict"]["vmap_block"] == "equal") == fixed


def test_read(module_guest: Guest) -> None:
    """vmap read shows a mapping in a block as the module wrote it."""
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    one = next(
        m
        for m in truth.mappings
        if m.live and m.area == "block" and m.pages > 2 and m.address % 2**20
    )
    args = f"{one.address + 4096:x} --length 4K --json"
    found = run(module_guest, f"scripts/vmap_read.py {args}")
    [piece] = found["pieces"]
    word = 0xA5 << 56 | (one.fill or 0) << 32 | 1 << 16
    assert (
        piece["data"][:32]
        == b"".join((word + i).to_bytes(8, "little") for i in range(2)).hex()
    )
    assert len(piece["data"]) == 2 * 4096


@slow
@pytest.mark.kernels(*KERNELS)
def test_under_stress(module_guest: Guest) -> None:
    """What goes away meanwhile is a FaultError and nothing else; what stays is right."""
    with stress(module_guest):
        found = run(module_guest, f"{READS} {STRESS_SECONDS}")
    assert set(found["raised"]) <= {"none", "FaultError"}
    assert found["raised"]["none"] > 10
    assert (found["reads"] > 3, found["wrong"]) == (True, 0)
