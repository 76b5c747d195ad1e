# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Show what is left of vmalloc space.

Tells how much of it is busy (in use), lazy (freed, but some CPU's TLB may still
have it; the next purge gives it back), purging (a purge has it in hand), pooled
(kept for reuse by a vmap node, since Linux 6.9) and free; the largest gap, and
the gaps by size.

--fit SIZE answers "vmap allocation for size SIZE failed": would vmalloc(SIZE)
find room now, and where; only after a purge; or not at all, and which areas
stand in the way. A guard page is added to SIZE, as vmalloc() does. The size that
the kernel's message names has it already: ask for a page less.

  vmap gaps                          how full is it?
  vmap gaps --fit 64M                would 64 MiB fit?
  vmap gaps --fit 0x200000 --align 2M

Exit status: 0, or 1 if SIZE would not fit even after a purge or if parts of a
vmcore could not be read, or 2 if it cannot.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Optional

from ..analyses.gaps import find_fit, find_gaps, needed_bytes
from ..errors import UsageError
from ..kernel.vmalloc.free import lowest_fit
from ..kernel.vmalloc.lazy import lazy_pages
from ..kernel.vmalloc.ranges import vmalloc_range
from ..kernel.vmalloc.snapshot import take_snapshot
from ..model.areas import Snapshot
from ..model.space import Fit, VmallocRange
from ..render.gaps import fit_text, gaps_json, gaps_text
from ..render.records import document
from . import EXIT_FOUND
from .common import add_json, problem_status, size, warn_of_problems, write_text

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``gaps``."""
    parser.add_argument(
        "--fit",
        metavar="SIZE",
        type=size,
        help="would vmalloc(SIZE) find room? In bytes, or with K, M, G or T",
    )
    parser.add_argument(
        "--align",
        metavar="A",
        type=size,
        help="with --fit: at a multiple of A, a power of two",
    )
    add_json(parser)


def run(target: "Target", args: argparse.Namespace) -> int:
    """Print what is left, and the answer to --fit."""
    _check(args)
    snapshot = take_snapshot(target, all_states=True)
    space = vmalloc_range(target)
    gaps = find_gaps(snapshot, space, lazy_pages(target))
    fit = None if args.fit is None else _fit(target, snapshot, space, args)
    if args.json:
        body = gaps_json(gaps, fit)
        sys.stdout.write(document("gaps", snapshot.kernel, snapshot.problems, **body))
    else:
        write_text(gaps_text(gaps) + (f"\n{fit_text(fit)}" if fit else ""))
        warn_of_problems("gaps", snapshot.problems)
    if fit and not fit.fits_after_purge:
        return EXIT_FOUND
    return problem_status(snapshot.problems)


def _check(args: argparse.Namespace) -> None:
    if args.align is not None and args.fit is None:
        raise UsageError("--align says how --fit is to fit: give --fit SIZE too")
    if args.fit == 0:
        raise UsageError("--fit 0 always fits: give the size that failed")
    if args.align is not None and args.align & (args.align - 1) or args.align == 0:
        raise UsageError(f"--align {args.align} is no power of two: give one")


def _fit(
    target: "Target", snapshot: Snapshot, space: VmallocRange, args: argparse.Namespace
) -> Optional[Fit]:
    align = args.align or 1
    needed = needed_bytes(args.fit, snapshot.kernel.page_size)
    where = lowest_fit(target, needed, align, space)
    return find_fit(snapshot, space, args.fit, align, where)
