# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Show who holds vmalloc space.

Sums up the areas in use by the code that asked for them (--by caller), by the
module of that code, by kind, or by the NUMA node of their pages; the largest
come first. BYTES are of addresses, guard pages included (by node: of pages), and
PAGES are pages of memory that vmalloc() allocated or vmap() was given to keep.

The last line compares the pages of all areas with the kernel's own counter, the
VmallocUsed of /proc/meminfo. Is it "equal", nothing was missed.

  vmap top                     the twenty largest callers
  vmap top --by module -n 0    all modules
  vmap top --json              all callers, for programs

Exit status: 0, or 1 if parts of a vmcore could not be read, or 2 if it cannot.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from ..analyses.top import GROUPINGS, reconcile, sum_areas
from ..kernel.counters import vmalloc_pages
from ..kernel.snapshot import take_snapshot
from ..render.records import document
from ..render.top import top_json, top_table, verdict_text
from .common import add_json, number, problem_status, warn_of_problems

if TYPE_CHECKING:
    from drgn import Program

__all__ = ("add_arguments", "run")

_ROWS_FOR_PEOPLE = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``top``."""
    parser.add_argument(
        "--by",
        choices=GROUPINGS,
        default="caller",
        help="what to sum up by (default: caller)",
    )
    parser.add_argument(
        "-n",
        metavar="N",
        type=number,
        dest="rows",
        help="print the N largest, 0 for all (default: "
        f"{_ROWS_FOR_PEOPLE}, with --json all)",
    )
    add_json(parser)


def run(prog: "Program", args: argparse.Namespace) -> int:
    """Print the sums that the arguments ask for."""
    snapshot = take_snapshot(prog)
    top = sum_areas(snapshot, args.by)
    found = reconcile(snapshot, vmalloc_pages(prog))
    kernel, problems = snapshot.kernel, snapshot.problems
    if args.json:
        body = top_json(top, args.rows or None, found)
        sys.stdout.write(document("top", kernel, problems, **body))
    else:
        rows = _ROWS_FOR_PEOPLE if args.rows is None else args.rows
        sys.stdout.write(top_table(top, rows or None))
        sys.stdout.write(verdict_text(found, kernel.live))
        warn_of_problems("top", problems)
    return problem_status(problems)
