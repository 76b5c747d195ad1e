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
  vmap top --openmetrics       the same for Prometheus
  vmap top --from bundle/proc/vmallocinfo

Exit status: 0, or 1 if parts of a vmcore could not be read, or 2 if it cannot.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Optional, Tuple

from ..analyses.saved_text import areas_from_text
from ..analyses.top import GROUPINGS, reconcile, sum_areas
from ..model.areas import Snapshot
from ..model.sums import PageCounter
from ..render.openmetrics import openmetrics
from ..render.records import document
from ..render.top import top_json, top_table, verdict_text
from .common import (
    add_from,
    add_json,
    count,
    problem_status,
    read_file,
    terminal_width,
    warn_of_problems,
    write_text,
)

if TYPE_CHECKING:
    from ..kernel.target import Target

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
        type=count,
        dest="rows",
        help="print the N largest, 0 for all (default: "
        f"{_ROWS_FOR_PEOPLE}, for programs all)",
    )
    form = parser.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument(
        "--openmetrics",
        action="store_true",
        help="print gauges for Prometheus, such as its textfile collector takes",
    )
    add_from(parser)


def run(target: Optional["Target"], args: argparse.Namespace) -> int:
    """Print the sums that the arguments ask for."""
    if args.saved is not None or target is None:
        saved = areas_from_text(args.saved, read_file(args.saved))
        return _run(saved.snapshot, None, args)
    return _run(*_look(target), args)


def _look(target: "Target") -> Tuple[Snapshot, Optional[PageCounter]]:
    # Not at the top of the file: --from works without drgn.
    from ..kernel.vmalloc.counters import vmalloc_pages
    from ..kernel.vmalloc.snapshot import take_snapshot

    return take_snapshot(target), vmalloc_pages(target)


def _run(
    snapshot: Snapshot, counter: Optional[PageCounter], args: argparse.Namespace
) -> int:
    top = sum_areas(snapshot, args.by)
    found = reconcile(snapshot, counter)
    problems = snapshot.problems
    kernel = None if args.saved else snapshot.kernel
    if args.openmetrics:
        sys.stdout.write(openmetrics(top, args.rows or None, found, kernel))
        warn_of_problems("top", problems)
    elif args.json:
        body = top_json(top, args.rows or None, found)
        sys.stdout.write(document("top", kernel, problems, **body))
    else:
        rows = _ROWS_FOR_PEOPLE if args.rows is None else args.rows
        write_text(top_table(top, rows or None, terminal_width()))
        if kernel:
            write_text(verdict_text(found, kernel.live))
        warn_of_problems("top", problems)
    return problem_status(problems)
