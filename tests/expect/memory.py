# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `vmap mem-usage` has to say of how memory is used."""

from __future__ import annotations

import re

from drgn import Program
from drgn.helpers.linux.mmzone import for_each_online_pgdat

__all__ = ("free_pages", "numbers")

TITLES = "TYPE PAGES EXCLUDABLE"


def numbers(table: str) -> dict[str, int]:
    """Return the pages by class, and what else is counted, of either's table."""
    titles = [line for line in table.splitlines() if line.startswith("TYPE")]
    assert [line.split()[:3] for line in titles] == [TITLES.split()]
    found = re.findall(r"^([A-Z_]+|[A-Z][a-z ]+):?\s+(\d+)\b", table, re.MULTILINE)
    return {name: int(number) for name, number in found}


def free_pages(prog: Program) -> int:
    return sum(
        int(area.nr_free) << order
        for node in for_each_online_pgdat(prog)
        for zone in node.node_zones
        for order, area in enumerate(zone.free_area)
    )
