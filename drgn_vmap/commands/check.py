# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Check whether /proc/kcore returns what memory holds, page by page.

Reads each page twice: from /proc/kcore, as every debugger of a running kernel
does; and through the kernel's page table from physical memory. A page that the
two views differ on is read again, until it is clear that it did not just
change. Each page is

  equal           what memory holds
  zero            zeros, but memory holds data
  wrong           other bytes; it says which page of the area they are from
  stale           the bytes that were read before, whatever these were
  unmapped-wrong  bytes, but there is no page
  by-design       zeros, as the kernel means to return there: guard page,
                  ioremap, sparse, an area not yet set up, the last page of a
                  per-CPU chunk
  unmapped-zero   zeros, and there is no page
  unmapped-fault  an error, and there is no page: right, if drgn is compared
  raced           it changed each time
  unreadable      one of the views cannot be had, as of a device's memory

With --through drgn it compares what drgn itself returns, which is what
/proc/kcore does, until %vmap direct has drgn read page tables.

It reads all of what vm_map_ram() mapped, and a sample of other areas. It needs
a running kernel, and root. Nothing is written, and no device is read.

  vmap check
  vmap check --kind vm_map_ram,vmap_block --json
  vmap check --all-pages
  drgn -k scripts/vmap_direct.py scripts/vmap_check.py --through drgn

Exit status: 0, or 1 if a page is zero, wrong, stale or unmapped-wrong, or 2 if
it cannot.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from ..analyses.check import CHECKED_KINDS, Scope
from ..model.kcore import Reader
from ..render.check import check_json, check_text
from ..render.records import document
from . import EXIT_FOUND, EXIT_OK
from .common import (
    add_json,
    address_range,
    count,
    one_of_each,
    warn_of_problems,
    write_text,
)
from .measure import measure
from .progress import Progress

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``check``."""
    add_json(parser)
    parser.add_argument(
        "--kind",
        metavar="K[,K...]",
        type=one_of_each(CHECKED_KINDS),
        default=[],
        help=f"only areas of any of these kinds: {', '.join(CHECKED_KINDS)}",
    )
    parser.add_argument(
        "--range",
        metavar="START-END",
        type=address_range,
        help="only pages at these addresses",
    )
    parser.add_argument(
        "--limit-pages",
        metavar="N",
        type=_limit,
        help="read no more than N pages, those of vm_map_ram() first",
    )
    parser.add_argument(
        "--all-pages",
        action="store_true",
        help="read every page of every area, not just a sample of ordinary ones",
    )
    parser.add_argument(
        "--through",
        choices=[reader.value for reader in Reader],
        default=Reader.KCORE.value,
        help="compare what the file /proc/kcore returns, or drgn (default: kcore)",
    )


def run(target: "Target", args: argparse.Namespace) -> int:
    """Print how what kcore returns compares with memory."""
    scope = Scope(args.kind, args.range, args.all_pages, args.limit_pages)
    with Progress("check", "pages") as progress:
        found = measure(target, scope, progress.update, Reader(args.through))
    if args.json:
        body = check_json(found)
        sys.stdout.write(document("check", found.kernel, found.problems, **body))
    else:
        write_text(check_text(found))
        warn_of_problems("check", found.problems)
    return EXIT_FOUND if found.found_bad else EXIT_OK


def _limit(text: str) -> int:
    limit = count(text)
    if limit < 1:
        raise argparse.ArgumentTypeError(f"{text!r} pages are none: give at least 1")
    return limit
