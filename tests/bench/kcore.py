# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
How fast a running kernel's vmalloc space is read through /proc/kcore: by ``vmap check``,
which also reads what memory holds, and by ``dd``, which reads the same pages. The fixture
module maps the same 16 MiB again and again, so that a small guest has gigabytes of it.
"""

from __future__ import annotations

import json
from typing import Any

from tabulate import tabulate

from tests.lab.fixture_module import load_fixture_module
from tests.lab.guest import Guest

__all__ = ("kcore_table", "measure_kcore")

ALIASES_PER_GIB = 64
SECONDS = 6000.0
DRGN = "drgn -q -c /proc/kcore"
CHECK = "scripts/vmap_check.py --all-pages --kind vmap --json"
BTF = "--no-default-symbols"
#: Each reads all pages, and the one behind it is all that it does besides.
COMMANDS = {
    "check": f"{DRGN} {CHECK}",
    "drgn alone": f"{DRGN} -e pass",
    "check, BTF": f"{DRGN} {BTF} {CHECK}",
    "drgn alone, BTF": f"{DRGN} {BTF} -e pass",
}


def measure_kcore(kernel: str, gib: int) -> dict[str, Any]:
    """Map so much, and return what was read in bytes, and figures of each command."""
    with Guest.boot(kernel) as guest:
        load_fixture_module(guest)
        aliases = f"aliases {gib * ALIASES_PER_GIB}".encode()
        guest.write("/proc/vmap_lab", aliases, timeout=SECONDS)
        guest.write("/tmp/commands", json.dumps(COMMANDS).encode())
        time_kcore = "python3 tests/lab/inside/time_kcore.py </tmp/commands"
        done = guest.run(time_kcore, timeout=SECONDS)
        assert done.status == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return {"kernel": kernel, **found}


def kcore_table(found: dict[str, Any]) -> str:
    """Return all figures; MIB/S are beyond drgn's own start."""
    figures, read = found["figures"], found["bytes"]
    rows = []
    for name, one in figures.items():
        alone = figures.get(name.replace("check", "drgn alone"), {"seconds": 0})
        seconds = one["seconds"] - (alone["seconds"] if "check" in name else 0)
        rate = read / seconds / (1 << 20)
        is_reader = name == "dd" or "check" in name
        memory = (one["peak_kib"], one["own_kib"])
        rows.append(
            [
                name,
                f"{one['seconds']:.1f}",
                f"{rate:.1f}" if is_reader else "",
                f"{seconds / figures['dd']['seconds']:.1f}" if is_reader else "",
                *(f"{kib / 1024:.0f}" for kib in memory),
            ]
        )
    headers = ("COMMAND", "SECONDS", "MIB/S", "TIMES DD", "PEAK MIB", "OF ITS OWN")
    title = f"{found['kernel']}: {read / (1 << 30):.1f} GiB of mapped pages, live"
    return f"{title}\n{tabulate(rows, headers, 'plain', disable_numparse=True)}"
