# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Write a report: one HTML file to look at and to attach to a ticket.

It says what it was made from, by what and when, and what to worry about; then
how full vmalloc space is, with a drawing of it, the callers, modules and kinds
that hold most, the largest areas, the blocks that strand most, the outcome of
all checks of fsck, and what verify says of the vm_map_ram series. It loads
nothing from anywhere and needs no script; where scripts may run, its tables can
be sorted and searched. However many areas there are, it stays small, as it sums
them up.

  vmap report -o report.html
  vmap report -o report.md --format markdown
  vmap report --from bundle/proc/vmallocinfo -o report.html

Exit status: 0, or 1 if a check failed, parts of a vmcore could not be read or
lines of a text were left out, or 2 if it cannot.
"""

import argparse
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Optional, Tuple

from .. import __version__
from ..analyses.blocks import block_totals
from ..analyses.describe import describe
from ..analyses.gaps import find_gaps
from ..analyses.overview import warnings
from ..analyses.report import largest_rows, map_blocks, stretches
from ..analyses.saved_text import describe_saved
from ..analyses.text_gaps import space_of, with_free_ranges
from ..analyses.top import reconcile, sum_areas
from ..analyses.verify import verify_text
from ..errors import UsageError
from ..model.areas import Snapshot
from ..model.inspection import Verdict
from ..model.pictures import Overview, Report
from ..model.saved import SavedText
from ..model.sums import Top
from ..render.report import report_html
from ..render.report_text import report_markdown, report_text
from . import EXIT_FOUND
from .common import add_from, problem_status, tell_what_was_written
from .output import add_output, whole_file
from .texts import open_saved

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "check_arguments", "run")

_AREAS = 100
_RENDERERS = {"html": report_html, "markdown": report_markdown, "text": report_text}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``report``."""
    add_output(parser, "report")
    parser.add_argument(
        "--format",
        choices=tuple(_RENDERERS),
        default="html",
        help="html: to look at (default); markdown: to paste into a ticket; text: to "
        "mail. These two have no drawings",
    )
    parser.add_argument(
        "--owners",
        action="store_true",
        help="also who owns what, told by who points at it, as top --by owner does",
    )
    add_from(parser)


def check_arguments(args: argparse.Namespace) -> None:
    """
    See that arguments go together, before a target is opened for them.

    :raises UsageError: if they do not.
    """
    if args.owners and args.saved is not None:
        raise UsageError("a text tells no owners: leave out --from, or --owners")


def run(target: Optional["Target"], args: argparse.Namespace) -> int:
    """Write the report."""
    sources = [args.saved] if target is None else target.files
    with whole_file(args.output, sources) as file:
        if target is None:
            report = _of_file(open_saved(args))
        else:
            report = _of_target(target, args.owners)
        text = _RENDERERS[args.format](report)
        file.write(text.encode("utf-8", "backslashreplace"))
    tell_what_was_written("report", args.output)
    if any(check.verdict == Verdict.FAILED for check in report.checks or ()):
        return EXIT_FOUND
    return problem_status(report.problems)


def _of_target(target: "Target", owners: bool) -> Report:
    # Not at the top of the file: --from works without drgn.
    from ..kernel.vmalloc.owners import with_owners
    from ..kernel.vmalloc.ranges import vmalloc_range
    from .fsck import inspect_and_check
    from .verify import verify_kernel

    found, checks = inspect_and_check(target)
    snapshot = with_owners(target, found.snapshot) if owners else found.snapshot
    tops = _tops(snapshot, *(["owner"] if owners else []))
    series = verify_kernel(target, snapshot, found.blocks)
    crashed = target.vmcoreinfo.crash_time
    summary = Overview(
        snapshot=snapshot,
        gaps=find_gaps(snapshot, vmalloc_range(target), found.lazy),
        top=tops[0],
        pages=reconcile(snapshot, found.counter),
        blocks=block_totals(found.blocks),
        series=series.verdict,
    )
    return Report(
        source="live kernel" if snapshot.kernel.live else "vmcore",
        kernel=snapshot.kernel,
        warnings=tuple(warnings(summary)),
        gaps=summary.gaps,
        pages=summary.pages,
        tops=tops,
        stretches=stretches(snapshot),
        largest=tuple(describe(snapshot, largest_rows(snapshot, _AREAS))),
        blocks=map_blocks(found.blocks),
        checks=checks,
        series=series,
        problems=tuple(dict.fromkeys((*snapshot.problems, *found.blocks.problems))),
        made=_made(),
        host=target.host,
        crashed=_time(crashed) if crashed else None,
    )


def _of_file(saved: SavedText) -> Report:
    snapshot = saved.snapshot
    by_rows = partial(describe_saved, saved)
    is_raw = saved.pointers == "raw"
    notes = () if is_raw else ("the addresses in this file are hashed or hidden",)
    gaps = None
    if is_raw:
        space = space_of(snapshot, None)
        gaps = find_gaps(with_free_ranges(snapshot, space), space, None)
    return Report(
        source=f"{os.path.basename(saved.name)}, a copy of /proc/vmallocinfo",
        kernel=None,
        warnings=notes,
        gaps=gaps,
        pages=None,
        tops=_tops(snapshot),
        stretches=stretches(snapshot, by_rows) if is_raw else (),
        largest=tuple(by_rows(largest_rows(snapshot, _AREAS))),
        blocks=None,
        checks=None,
        series=verify_text(saved),
        problems=snapshot.problems,
        made=_made(),
    )


def _made() -> str:
    return f"{_time(int(time.time()))} by drgn_vmap {__version__}"


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _tops(snapshot: Snapshot, *more: str) -> Tuple[Top, ...]:
    return tuple(sum_areas(snapshot, by) for by in ("caller", "module", "kind", *more))
