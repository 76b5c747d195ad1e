# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Time `vmap check` of all vmap() areas, and dd of the same pages; runs in a guest in
which the fixture module made aliases.

Prints JSON: what was read in bytes, seconds of drgn alone, of check and of dd, and the
peak memory of drgn alone and of check in KiB.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap._numpy import np
from drgn_vmap.kernel.kcore import Kcore
from tests.lab.truth import Truth

PAGE = 4096
DRGN = ["drgn", "-q", "-c", "/proc/kcore"]
CHECK = ["scripts/vmap_check.py", "--json", "--all-pages", "--kind", "vmap"]


def timed(command: List[str]) -> Tuple[float, int, bytes]:
    """Return seconds, the peak memory of all children so far, and what it prints."""
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seconds = time.monotonic() - started
    assert done.returncode in (0, 1), done.stderr
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.stdout


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


result: Dict[str, float] = {}
result["drgn_seconds"], result["drgn_kib"], _ = timed([*DRGN, "-e", "pass"])
result["check_seconds"], result["check_kib"], out = timed([*DRGN, *CHECK])
totals = json.loads(out)["totals"]["vmap"]
assert set(totals) <= {"equal", "by-design"}, totals
result["check_bytes"] = totals["equal"] * PAGE
result["dd_bytes"] = result["dd_seconds"] = 0
with Kcore(PAGE) as kcore:
    for start, end in ranges():
        [offset] = kcore.virtual_offsets(np.array([start], np.uint64)).tolist()
        dd = ["dd", "if=/proc/kcore", "of=/dev/null", "bs=1M"]
        dd += ["iflag=skip_bytes,count_bytes", f"skip={offset}", f"count={end - start}"]
        result["dd_seconds"] += timed(dd)[0]
        result["dd_bytes"] += end - start
print(json.dumps(result))
