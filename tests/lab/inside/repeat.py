# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Run a verb many times over; drgn runs this in a guest where areas come and go.

    drgn -c /proc/kcore repeat.py TIMES VERB [options]

Prints one line of JSON a run: its exit status, what it printed, its warnings.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.commands import run

for _ in range(int(sys.argv[1])):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(sys.argv[2], globals()["prog"], sys.argv[3:])
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
