# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Take two live snapshots with a leak of the fixture module between them; drgn runs this
in a guest. Arguments: how many areas to leak. Prints JSON: for before and after, what
`vmap ls --json` printed and the text of /proc/vmallocinfo. Slices of both moments are
left in /tmp/before.slice and /tmp/after.slice.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.commands import run  # noqa: E402

LAB = Path("/proc/vmap_lab")


def look(moment: str) -> List[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = run("ls", globals()["prog"], ["--json"])
        status |= run("slice", globals()["prog"], ["-o", f"/tmp/{moment}.slice"])
    assert status == 0, status
    return [out.getvalue(), Path("/proc/vmallocinfo").read_text()]


before = look("before")
LAB.write_text(f"leak {sys.argv[1]}\n")
after = look("after")
LAB.write_text("leak 0\n")
print(json.dumps({"before": before, "after": after}))
