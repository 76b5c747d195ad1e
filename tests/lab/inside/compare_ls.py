# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Compare `vmap ls` with the file it reproduces; drgn runs this in a guest.

All of it happens in one process and without a fork, as each new process has a
kernel stack, which is a line of the very file. The file is read before and after:
only when both are the same must `ls` have printed the same. Prints JSON: for each
value of kptr_restrict that is named what differs, or None if the guest never was that quiet.
"""

import contextlib
import difflib
import io
import json
import sys
from pathlib import Path
from typing import Dict, List, Optional

from drgn import Program

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.commands import run  # noqa: E402

VMALLOCINFO = Path("/proc/vmallocinfo")
KPTR_RESTRICT = Path("/proc/sys/kernel/kptr_restrict")
TRIES = 20

# The text of a large /proc file is built in a buffer that is vmalloc memory
# itself while the file is read: a line that only reading makes.
READER = " seq_read_iter+"


def lines_of_file() -> List[str]:
    lines = VMALLOCINFO.read_text().splitlines()
    return [line for line in lines if READER not in line]


def lines_of_ls(prog: Program) -> List[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = run("ls", prog, ["--pointers", "auto"])
    assert status == 0, status
    return out.getvalue().splitlines()


def difference(prog: Program) -> Optional[List[str]]:
    """Return the lines that differ, or None if the file kept changing."""
    for _ in range(TRIES):
        before = lines_of_file()
        printed = lines_of_ls(prog)
        if before == lines_of_file():
            return list(difflib.unified_diff(before, printed, lineterm="", n=0))
    return None


result: Dict[str, object] = {}
for restrict in sys.argv[1:]:
    KPTR_RESTRICT.write_text(restrict)
    lines_of_ls(globals()["prog"])
    result[restrict] = difference(globals()["prog"])
KPTR_RESTRICT.write_text("0")
result["lines"] = len(lines_of_file())
print(json.dumps(result))
