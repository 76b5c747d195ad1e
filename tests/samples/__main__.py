# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unpack a sample: ``python -m tests.samples 6.12 FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

from . import samples


def main() -> None:
    """Do so; the manifest is held against it."""
    known = {sample.name: sample for sample in samples()}
    if len(sys.argv) != 3 or sys.argv[1] not in known:
        sys.exit(f"usage: python -m tests.samples {{{','.join(known)}}} FILE")
    output = Path(sys.argv[2])
    output.parent.mkdir(parents=True, exist_ok=True)
    known[sys.argv[1]].unpack(output)


if __name__ == "__main__":
    main()
