# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Bytes per second and peak memory of ``vmap check`` over mapped vmalloc space, beside
``dd`` of the same pages of /proc/kcore. The fixture module maps the same 16 MiB again
and again, so that a small guest has it:

    python -m tests.bench.check --kernel 6.12 --gib 4
"""

from __future__ import annotations

import argparse
import json

from tests.lab.conftest import load_fixture_module
from tests.lab.guest import Guest

ALIASES_PER_GIB = 64
SECONDS = 3000


def main() -> None:
    """Map, measure in the guest, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", default="6.12")
    parser.add_argument("--gib", type=int, default=4)
    args = parser.parse_args()
    with Guest.boot(args.kernel) as guest:
        load_fixture_module(guest)
        aliases = f"aliases {args.gib * ALIASES_PER_GIB}".encode()
        guest.write("/proc/vmap_lab", aliases, timeout=SECONDS)
        done = guest.run("python3 tests/lab/inside/time_check.py", timeout=SECONDS)
        assert done.status == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    seconds = found["check_seconds"] - found["drgn_seconds"]
    rates = {
        "vmap check": found["check_bytes"] / seconds,
        "dd": found["dd_bytes"] / found["dd_seconds"],
    }
    gib = found["check_bytes"] / (1 << 30)
    print(f"{args.kernel}, {gib:.1f} GiB of mapped pages, in an emulated guest")
    for name, rate in rates.items():
        print(f"{name:12}{rate / (1 << 20):8.1f} MiB/s")
    print(f"check: {seconds:.1f} s beyond drgn's own {found['drgn_seconds']:.1f} s")
    print(f"peak memory: {found['check_kib'] // 1024} MiB of check, ", end="")
    print(f"{found['drgn_kib'] // 1024} MiB of drgn alone")


if __name__ == "__main__":
    main()
