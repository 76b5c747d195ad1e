# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Tables
------

Columns for people.
"""

from typing import Sequence

__all__ = ("plain_table",)


def plain_table(
    rows: Sequence[Sequence[str]], headers: Sequence[str], align: Sequence[str]
) -> str:
    """
    Return a table with a line of headings, without rules.

    :param align: ``left`` or ``right`` for each column.
    """
    # Not at the top of the file: importing it takes 25 ms, which is much for those
    # who print no table.
    from tabulate import tabulate

    return tabulate(rows, headers, "plain", disable_numparse=True, colalign=align)
