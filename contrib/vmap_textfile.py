#!/usr/bin/env python3
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Write who holds vmalloc space to where node_exporter's textfile collector looks.

  python3 contrib/vmap_textfile.py /var/lib/node_exporter/vmap.prom

It reads this host's /proc/vmallocinfo, so it runs as root; of what this project depends
on it needs all but drgn, and no debug info. Start it from cron or a systemd timer, say
each minute. The file is replaced as a whole, so the collector never sees half of it. Only the twenty largest callers have a
series of their own, which bounds their number. Tried on Debian 12 with Python 3.11; a rule
to alert on:

  deriv(vmap_caller_bytes[1h]) > 1e5
"""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1] / "scripts" / "vmap_top.py"
SOURCE = "/proc/vmallocinfo"
CALLERS = "20"


def main() -> int:
    if len(sys.argv) != 2:
        print(f"usage: {sys.argv[0]} FILE.prom", file=sys.stderr)
        return 2
    output = Path(sys.argv[1])
    command = [sys.executable, str(TOP), "--from", SOURCE]
    command += ["--openmetrics", "-n", CALLERS]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        return done.returncode
    # The collector takes files that end in .prom only.
    new = output.with_suffix(".new")
    new.write_bytes(done.stdout)
    os.replace(new, output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
