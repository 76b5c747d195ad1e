# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Say what a verb reads of the kernel that runs; drgn runs this in a guest.

    drgn -c /proc/kcore count_reads.py VERB [options]

Prints JSON: how many reads it takes, and how many bytes they return, as the kernel counts
them for the process; nearly all are of /proc/kcore, for modules are imported before.
"""

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.commands import run


def counters() -> Dict[str, int]:
    """Return what the kernel counts of this process; see proc_pid_io(5)."""
    found = re.findall(r"(\w+): (\d+)", Path("/proc/self/io").read_text())
    return {name: int(value) for name, value in found}


def run_quietly(*words: str) -> int:
    """Return a verb's exit status."""
    with contextlib.redirect_stdout(io.StringIO()):
        return run(sys.argv[1], globals()["prog"], [*sys.argv[2:], *words])


run_quietly("--help")
before = counters()
status = run_quietly()
after = counters()
assert status == 0, status
print(
    json.dumps(
        {
            "reads": after["syscr"] - before["syscr"],
            "bytes": after["rchar"] - before["rchar"],
        }
    )
)
