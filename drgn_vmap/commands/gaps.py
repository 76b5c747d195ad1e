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
stand in the way. A guard page is added to SIZE, as vmalloc() does. The size
that the kernel's message names has it already: ask for a page less. More than
there is RAM is refused, as vmalloc() does.

Where modules fail to load while vmalloc space is free, ask for --space module:
that is what the kernel's allocator of modules may use. If the message names the
addresses it was restricted to, ask for these with --range.

  vmap gaps                          how full is it?
  vmap gaps --fit 64M                would 64 MiB fit?
  vmap gaps --fit 0x200000 --align 2M
  vmap gaps --space module --fit 2494464    would a module's part of this size?
  vmap gaps --from vmallocinfo --range 0xffffffffc0000000-0xffffffffff000000

With --from, free is what lies between the areas of a text with real addresses:
from the first one to the last, as it does not tell where vmalloc space ends, or
--range.

Exit status: 0, or 1 if SIZE would not fit even after a purge, parts of a vmcore
could not be read or lines of a text were left out, or 2 if it cannot.
"""

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Optional

from ..analyses.gaps import (
    cached_place,
    find_fit,
    find_gaps,
    lowest_free,
    request_for,
)
from ..analyses.text_gaps import space_of, with_free_ranges
from ..errors import UsageError
from ..model.areas import Snapshot
from ..model.space import Fit, Gaps, Request, Space, VmallocRange
from ..render.gaps import fit_text, gaps_json, gaps_text
from ..render.records import document
from . import EXIT_FOUND
from .common import (
    add_from,
    add_json,
    address_range,
    problem_status,
    size,
    warn_of_problems,
    write_text,
)
from .texts import open_saved

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run")

_VMALLOC = "vmalloc"


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
    parser.add_argument(
        "--space",
        choices=(_VMALLOC, "module"),
        help="vmalloc space (default), or what the kernel loads modules into: on x86-64 "
        "that is elsewhere",
    )
    parser.add_argument(
        "--range",
        metavar="START-END",
        type=address_range,
        help="only these addresses, such as those where modules go, instead of vmalloc "
        "space",
    )
    add_from(parser)
    add_json(parser)


def run(target: Optional["Target"], args: argparse.Namespace) -> int:
    """Print what is left, and the answer to --fit."""
    _check(args)
    if target is None:
        found = _of_file(args)
    else:
        found = _of_target(target, args)
    gaps, fit, snapshot = found.gaps, found.fit, found.snapshot
    if args.json:
        kernel = None if args.saved else snapshot.kernel
        body = gaps_json(gaps, fit)
        sys.stdout.write(document("gaps", kernel, snapshot.problems, **body))
    else:
        title = gaps_text(gaps, found.title)
        write_text(title + (f"\n{fit_text(fit)}" if fit else ""))
        warn_of_problems("gaps", snapshot.problems)
    if fit and not fit.fits_after_purge:
        return EXIT_FOUND
    return problem_status(snapshot.problems)


class _Found(NamedTuple):
    snapshot: Snapshot
    gaps: Gaps
    fit: Optional[Fit]
    title: str
    """What the range is."""


def _of_target(target: "Target", args: argparse.Namespace) -> _Found:
    # Not at the top of the file: --from works without drgn.
    from ..kernel.vmalloc.counters import ram_bytes
    from ..kernel.vmalloc.free import has_tree, lowest_fit
    from ..kernel.vmalloc.lazy import lazy_pages
    from ..kernel.vmalloc.ranges import SPACES
    from ..kernel.vmalloc.snapshot import take_snapshot

    snapshot = take_snapshot(target, all_states=True)
    if args.range is not None:
        start, end = args.range
        given = VmallocRange(start, end, end)
        space = Space(given, (given,))
    else:
        space = SPACES[args.space or _VMALLOC](target)
    snapshot = replace(snapshot, problems=(*snapshot.problems, *space.problems))
    gaps = find_gaps(snapshot, space.whole, lazy_pages(target), space.cached)

    def fit_in(request: Request, one: VmallocRange) -> Fit:
        if has_tree(target):
            where = lowest_fit(target, request, one)
        else:
            where = lowest_free(snapshot, one, request)
        return find_fit(snapshot, one, request, where, ram_bytes(target))

    fit = None
    if args.fit is not None:
        request = request_for(
            args.fit,
            args.align or 1,
            snapshot.kernel.page_size,
            tries_each_gap=not target.layout.has_free_tree,
        )
        fits = [fit_in(request, one) for one in space.ranges]
        fit = next((one for one in fits if one.fits_after_purge), fits[-1])
        cached = cached_place(space, args.fit, snapshot.kernel.page_size)
        fit = replace(fit, cached=cached)
    return _Found(snapshot, gaps, fit, _title(args, f"{args.space or _VMALLOC} space"))


def _of_file(args: argparse.Namespace) -> _Found:
    saved = open_saved(args)
    if saved.pointers != "raw":
        raise UsageError(
            f"{saved.name} has no real addresses, so nothing tells what is between: give "
            "one that root read with kptr_restrict 1"
        )
    space = space_of(saved.snapshot, args.range)
    snapshot = with_free_ranges(saved.snapshot, space)
    gaps = find_gaps(snapshot, space, None)
    fit = None
    if args.fit is not None:
        request = request_for(args.fit, args.align or 1, snapshot.kernel.page_size)
        where = lowest_free(snapshot, space, request)
        fit = find_fit(snapshot, space, request, where)
    return _Found(snapshot, gaps, fit, _title(args, "first to last area"))


def _title(args: argparse.Namespace, usual: str) -> str:
    return usual if args.range is None else "range"


def _check(args: argparse.Namespace) -> None:
    if args.space is not None and (args.range or args.saved is not None):
        raise UsageError("--space is where a kernel says: leave out --range, --from")
    if args.align is not None and args.fit is None:
        raise UsageError("--align says how --fit is to fit: give --fit SIZE too")
    if args.fit == 0:
        raise UsageError("--fit 0 always fits: give the size that failed")
    if args.align is not None and args.align & (args.align - 1) or args.align == 0:
        raise UsageError(f"--align {args.align} is no power of two: give one")
