#!/usr/bin/env drgn
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run a script whose drgn reads right: drgn -k scripts/vmap_direct.py SCRIPT [ARG...]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drgn_vmap.commands.direct import run_script

if __name__ == "__main__":
    # drgn gives each script the program it opened.
    run_script(globals().get("prog"), sys.argv[1:])
