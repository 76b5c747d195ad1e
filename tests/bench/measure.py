# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Times whole processes, in turns: what disturbs the machine disturbs all of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import Mapping, Sequence

__all__ = ("Figures", "measure")


@dataclass(frozen=True)
class Figures:
    """Medians over the runs of one command."""

    seconds: float
    cpu_seconds: float
    """In user mode and in the kernel, which other work disturbs less."""

    peak_mib: float
    status: int
    """The worst exit status of all runs."""


def measure(commands: Mapping[str, Sequence[str]], runs: int) -> dict[str, Figures]:
    """Run each command so many times, in turns; what they print is thrown away."""
    found: dict[str, list[Figures]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            found[name].append(_run(command))
    return {
        name: Figures(
            statistics.median(one.seconds for one in all_runs),
            statistics.median(one.cpu_seconds for one in all_runs),
            statistics.median(one.peak_mib for one in all_runs),
            max(one.status for one in all_runs),
        )
        for name, all_runs in found.items()
    }


def _run(command: Sequence[str]) -> Figures:
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    # Else Popen would wait for it again.
    process.returncode = os.waitstatus_to_exitcode(status)
    return Figures(
        time.monotonic() - started,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        process.returncode,
    )
