# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What verbs do while the fixture module maps and frees all kinds of areas."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import Iterator

from .guest import Guest

__all__ = ("RUNS", "runs_under_stress", "stress")

LAB = "/proc/vmap_lab"
REPEAT = "drgn -q -c /proc/kcore tests/lab/inside/repeat.py"
SECONDS_A_RUN = 300.0

RUNS = int(os.environ.get("VMAP_STRESS_RUNS", "3"))
"""How often each verb is run on each kernel; what is rare takes more to be seen."""


@contextmanager
def stress(guest: Guest) -> Iterator[None]:
    """Let areas come and go in a guest."""
    guest.write(LAB, b"stress start")
    try:
        yield
    finally:
        guest.write(LAB, b"stress stop")


def runs_under_stress(guest: Guest, verb: str) -> list[tuple[int, str, str]]:
    """
    Run a verb :data:`RUNS` times in one process, while areas come and go.

    :return: Exit status, output and warnings of each run.
    """
    with stress(guest):
        done = guest.run(f"{REPEAT} {RUNS} {verb}", timeout=RUNS * SECONDS_A_RUN)
    assert done.status == 0, done.stderr.decode()
    runs = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(runs) == RUNS
    return runs
