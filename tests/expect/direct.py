# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What drgn reads once its reads are direct: what the fixture module wrote, where its
/proc/kcore returns zeros or another page.
"""

from __future__ import annotations

import json
from typing import Any

from tests.lab.guest import VMALLOCINFO, Guest
from tests.running import LIVE

from .check import FIXED

__all__ = (
    "READS",
    "expect_all_equal",
    "expect_equal_at_last",
    "expect_every_page",
    "expect_off",
    "expect_what_is_not_there",
    "expect_what_others_do",
    "expect_what_was_right",
    "read_in_each_way",
    "run",
)

CHECK = "scripts/vmap_check.py --through drgn --json"
BLOCKS = f"{CHECK} --kind vmap_block"
READS = "tests/lab/inside/direct_reads.py"
PLUGIN = {"DRGN_PLUGINS": "drgn_vmap=drgn_vmap.plugin", "PYTHONPATH": "/vmap"}
SECONDS = 300.0


def run(guest: Guest, script: str, drgn: str = LIVE, **env: str) -> Any:
    """Return the JSON that a script prints in a guest."""
    done = guest.run(f"{drgn} {script}", timeout=SECONDS, env=env)
    assert done.status in (0, 1), done.stderr.decode()
    assert done.stderr == b""
    return json.loads(done.stdout)


def read_in_each_way(guest: Guest, drgn: str = LIVE) -> Any:
    """Return what each way of reading made of the module's mappings."""
    guest.write("/proc/vmap_lab", b"reset")
    try:
        return run(guest, READS, drgn)
    finally:
        # What was poked is no page of the module's any more.
        guest.write("/proc/vmap_lab", b"reset")


def expect_every_page(found: Any, kernel: str) -> None:
    """Each page of each mapping comes back as the module wrote it; few did before."""
    direct, before = found["direct"], found["before"]
    pages = {"ram": before["ram"], "others": before["others"]}
    for kind, counts in pages.items():
        total = sum(counts.values())
        assert direct[kind] == {"right": total, "wrong": 0, "fault": 0}
    assert sum(direct["ram"].values()) > 900
    if kernel not in FIXED:
        assert before["ram"]["wrong"] > 300
    assert found["at once"] == found["mappings"] > 40


def expect_what_others_do(found: Any, kernel: str) -> None:
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
    if kernel not in FIXED:
        assert not any(found["before"][name] == right[name] for name in right)


def expect_what_is_not_there(found: Any, has_devices: bool = True) -> None:
    """What was freed is a fault, and so is a device's memory, if there is any."""
    assert list(found["gone"]) == ["FaultError"] and found["gone"]["FaultError"] > 50
    assert set(found["devices"]) == ({"FaultError"} if has_devices else set())


def expect_what_was_right(guest: Guest, found: Any, has_pages: bool) -> None:
    """
    Modules are as before, and per-CPU memory as memory has it, to its last page.

    :param has_pages: Whether it is sure that there is some, and that it is mapped.
    """
    has_chunks = b" pcpu_get_vm_areas+" in guest.read(VMALLOCINFO)
    assert found["direct"]["module"] == found["before"]["module"]
    assert set(found["per-CPU"]) <= {"like memory", "fault"}
    assert bool(found["per-CPU"]) == has_chunks
    if has_pages:
        assert found["per-CPU"]["like memory"] > 0


def expect_off(found: Any) -> None:
    """Once off, all is as it was, and once on again, as before that."""
    assert found["off"] == found["before"]
    assert found["on again"]


def expect_all_equal(
    guest: Guest, kernel: str, drgn: str = LIVE, which: str = "--all-pages"
) -> None:
    """
    check --through drgn finds all equal once reads are direct, and not before.

    :param which: Says which pages are looked at.
    """
    expect_equal_at_last(guest, drgn, which)
    plain = run(guest, BLOCKS, drgn, **PLUGIN)
    fixed = kernel in FIXED
    assert (plain["verdict"]["vmap_block"] == "equal") == fixed


def expect_equal_at_last(guest: Guest, drgn: str, which: str) -> None:
    """It finds all equal once reads are direct, whatever it finds before."""
    found = run(guest, f"scripts/vmap_direct.py {CHECK} {which}", drgn)
    assert {"vm_map_ram", "vmap_block"} <= set(found["totals"])
    classes = {one for total in found["totals"].values() for one in total}
    assert classes <= {"equal", "unmapped-fault", "by-design", "unreadable", "raced"}
    assert set(found["totals"]["vm_map_ram"]) == {"equal"}
    assert set(found["totals"]["vmap_block"]) == {"equal", "unmapped-fault"}
    # From the start, by drgn's hook for new programs.
    hooked = run(guest, BLOCKS, drgn, DRGN_VMAP_DIRECT="1", **PLUGIN)
    assert hooked["totals"]["vmap_block"] == found["totals"]["vmap_block"]
