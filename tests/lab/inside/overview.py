# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Type `%vmap` as in interactive drgn; drgn runs this."""

import sys
from pathlib import Path

from drgn.commands import run_command

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import drgn_vmap.plugin  # noqa: E402, F401

run_command(globals()["prog"], "vmap")
