#!/usr/bin/env drgn
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Show what memory holds: drgn -c CORE scripts/vmap_read.py --help"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drgn_vmap.commands import main

if __name__ == "__main__":
    # drgn gives each script the program it opened.
    main("read", globals().get("prog"))
