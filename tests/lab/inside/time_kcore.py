# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Time commands that read all vmap() areas, and dd of the same pages of /proc/kcore; runs in
a guest in which the fixture module made aliases.

Reads commands by name, prints JSON: how many bytes the aliases have, and of each command
its seconds, its peak memory, and how much of its own, without pages of files, it had at
most at any moment that was looked at.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap._numpy import np
from drgn_vmap.kernel.memory.kcore import Kcore
from tests.lab.truth import Truth

PAGE = 4096
SECONDS_BETWEEN_LOOKS = 0.05


def timed(command: List[str]) -> Dict[str, float]:
    """Return the figures of a command that finds nothing wrong."""
    started, own_kib, waited = time.monotonic(), 0, 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not waited:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        own_kib = max(own_kib, anonymous_kib(process.pid))
        waited, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = status
    assert status == 0, command
    seconds = time.monotonic() - started
    return {"seconds": seconds, "peak_kib": usage.ru_maxrss, "own_kib": own_kib}


def anonymous_kib(pid: int) -> int:
    """Return how much memory a process has; 0 once it has ended."""
    found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def ranges() -> List[Tuple[int, int]]:
    """Return where the aliases lie; what a guard page apart lies together."""
    text = Path("/proc/vmap_lab_aliases").read_text()
    found: List[Tuple[int, int]] = []
    for one in sorted(Truth.parse_mappings(text), key=lambda one: one.address):
        start, end = one.address, one.address + one.pages * PAGE
        if found and start - found[-1][1] <= PAGE:
            start = found.pop()[0]
        found.append((start, end))
    return found


def dd_of_all(wanted: List[Tuple[int, int]]) -> Dict[str, float]:
    """Return the figures of dd, run for one range after the other."""
    total = {"seconds": 0.0, "peak_kib": 0.0, "own_kib": 0.0}
    with Kcore(PAGE) as kcore:
        starts = np.array([start for start, _ in wanted], np.uint64)
        offsets = kcore.virtual_offsets(starts).tolist()
    for offset, (start, end) in zip(offsets, wanted):
        dd = ["dd", "status=none", "if=/proc/kcore", "of=/dev/null", "bs=1M"]
        dd += ["iflag=skip_bytes,count_bytes", f"skip={offset}", f"count={end - start}"]
        one = timed(dd)
        total["seconds"] += one.pop("seconds")
        total.update({name: max(kib, total[name]) for name, kib in one.items()})
    return total


aliases = ranges()
commands = json.load(sys.stdin)
figures = {name: timed(shlex.split(command)) for name, command in commands.items()}
figures["dd"] = dd_of_all(aliases)
size = sum(end - start for start, end in aliases)
print(json.dumps({"bytes": size, "figures": figures}))
