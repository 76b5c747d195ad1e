# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
How fast drgn reads a running kernel's vmalloc space: as it is, through /proc/kcore; with
direct reads; and with these off again.
"""

from __future__ import annotations

import json
from typing import Any

from tabulate import tabulate

from tests.lab.fixture_module import load_fixture_module
from tests.lab.guest import Guest

__all__ = ("direct_table", "measure_direct")

ALIASES = 8
SECONDS = 900.0
TIME = "drgn -q -c /proc/kcore --no-default-symbols tests/lab/inside/time_direct.py"


def measure_direct(kernel: str) -> dict[str, Any]:
    """Return microseconds a read by way of reading and by case, and the cases' sizes."""
    with Guest.boot(kernel) as guest:
        load_fixture_module(guest)
        guest.write("/proc/vmap_lab", f"aliases {ALIASES}".encode(), timeout=SECONDS)
        done = guest.run(TIME, timeout=SECONDS)
        assert done.status == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return {"kernel": kernel, **found}


def direct_table(found: dict[str, Any]) -> str:
    """Return reads a second and MiB a second, and how many times plain drgn's that is."""
    plain = found["figures"]["plain"]
    rows = []
    for name, size in found["sizes"].items():
        for way, by_case in found["figures"].items():
            took = by_case[name]
            rate, speed = 1e6 / took, size / took * 1e6 / (1 << 20)
            ratio = f"{plain[name] / took:.2f}"
            rows.append([name, way, f"{rate:.0f}", f"{speed:.1f}", ratio])
    headers = ("READS", "DRGN", "A SECOND", "MIB/S", "TIMES PLAIN")
    title = f"{found['kernel']}: drgn's reads of vmap() areas, live"
    return f"{title}\n{tabulate(rows, headers, 'plain', disable_numparse=True)}"
