#!/usr/bin/env python3
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Show what changed between two moments: python3 scripts/vmap_diff.py --help"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drgn_vmap.commands import main

if __name__ == "__main__":
    # No kernel is looked at, whether or not drgn gives this script a program.
    main("diff", globals().get("prog"))
