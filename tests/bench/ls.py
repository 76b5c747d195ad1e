# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Areas per second of ``vmap ls`` beside drgn's ``%crash kmem -v``, whole processes on
one vmcore of a guest in which the fixture module made many areas:

    python -m tests.bench.ls --kernel 6.1 --areas 200000
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.conftest import load_fixture_module
from tests.lab.guest import Guest

ROOT = Path(__file__).parents[2]
KMEM = "from drgn.commands import run_command; run_command(prog, 'crash kmem -v')"


def seconds(command: list[str]) -> float:
    """Return how long a command takes, its output thrown away."""
    started = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def make_vmcore(kernel: str, areas: int, path: Path) -> tuple[Path, int]:
    """Dump a guest with so many more areas; return its vmlinux and number of lines."""
    memory_mib = 1024 + areas * 6 // 1000
    with Guest.boot(kernel, memory_mib=memory_mib, debug_info=False) as guest:
        load_fixture_module(guest)
        guest.write("/proc/vmap_lab", f"many {areas}".encode(), timeout=900)
        guest.dump(path)
        lines = guest.run("wc -l < /proc/vmallocinfo", timeout=300).stdout
        return guest.vmlinux, int(lines)


def main() -> None:
    """Make the vmcore, time both in turns, print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--areas", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory) / "vmcore"
        vmlinux, lines = make_vmcore(args.kernel, args.areas, path)
        drgn = [sys.executable, "-m", "drgn", "-q", "-c", str(path), "-s", str(vmlinux)]
        commands = {
            "drgn alone": [*drgn, "-e", "pass"],
            "vmap ls": [*drgn, str(ROOT / "scripts/vmap_ls.py")],
            "%crash kmem -v": [*drgn, "-e", KMEM],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.runs):
            for name, command in commands.items():
                times[name].append(seconds(command))
    medians = {name: statistics.median(of_it) for name, of_it in times.items()}
    print(f"{args.kernel}, {lines} areas, median of {args.runs}, whole process")
    for name, median in medians.items():
        print(f"{name:16}{median:8.2f} s")
    beyond = medians["vmap ls"] - medians["drgn alone"]
    print(f"vmap ls: {lines / beyond:.0f} areas a second beyond drgn's own start")
    print(f"ratio: {medians['%crash kmem -v'] / medians['vmap ls']:.1f}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"peak memory of the largest of them: {peak // 1024} MiB")


if __name__ == "__main__":
    main()
