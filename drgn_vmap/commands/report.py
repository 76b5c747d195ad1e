# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Write a report: one HTML file to look at and to attach to a ticket.

It has a summary with warnings, how full vmalloc space is, a drawing of it, the
callers, modules and kinds that hold most, the largest areas, the blocks that strand
most, the outcome of all checks of fsck, and what verify says of the vm_map_ram series.
It loads nothing from anywhere and needs no script. However many areas there are, it
stays small, as it sums them up.

  vmap report -o report.html
  vmap report --from bundle/proc/vmallocinfo -o report.html

Exit status: 0, or 1 if a check failed or parts of a vmcore could not be read, or 2
if it cannot.
"""

import argparse
from typing import TYPE_CHECKING, Optional, Tuple

from ..analyses.blocks import block_totals
from ..analyses.describe import describe
from ..analyses.gaps import find_gaps
from ..analyses.overview import warnings
from ..analyses.report import largest_rows, map_blocks, stretches
from ..analyses.saved_text import describe_saved
from ..analyses.text_gaps import space_of, with_free_ranges
from ..analyses.top import reconcile, sum_areas
from ..analyses.verify import verify_text
from ..model.areas import Snapshot
from ..model.inspection import Verdict
from ..model.pictures import Overview, Report
from ..model.saved import SavedText
from ..model.sums import Top
from ..render.report import report_html
from . import EXIT_FOUND
from .common import add_from, problem_status, tell_what_was_written
from .output import add_output, whole_file
from .texts import open_saved

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run")

_AREAS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``report``."""
    add_output(parser, "HTML")
    add_from(parser)


def run(target: Optional["Target"], args: argparse.Namespace) -> int:
    """Write the report."""
    sources = [args.saved] if target is None else target.files
    with whole_file(args.output, sources) as file:
        report = _of_file(open_saved(args)) if target is None else _of_target(target)
        file.write(report_html(report).encode("utf-8", "backslashreplace"))
    tell_what_was_written("report", args.output)
    if any(check.verdict == Verdict.FAILED for check in report.checks or ()):
        return EXIT_FOUND
    return problem_status(report.problems)


def _of_target(target: "Target") -> Report:
    # Not at the top of the file: --from works without drgn.
    from ..kernel.vmalloc.ranges import vmalloc_range
    from .fsck import inspect_and_check
    from .verify import verify_kernel

    found, checks = inspect_and_check(target)
    snapshot = found.snapshot
    tops = _tops(snapshot)
    series = verify_kernel(target, snapshot, found.blocks)
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
    )


def _of_file(saved: SavedText) -> Report:
    snapshot = saved.snapshot
    is_raw = saved.pointers == "raw"
    notes = () if is_raw else ("the addresses in this file are hashed or hidden",)
    gaps = None
    if is_raw:
        space = space_of(snapshot, None)
        gaps = find_gaps(with_free_ranges(snapshot, space), space, None)
    return Report(
        source=saved.name,
        kernel=None,
        warnings=notes,
        gaps=gaps,
        pages=None,
        tops=_tops(snapshot),
        stretches=stretches(snapshot) if is_raw else (),
        largest=tuple(describe_saved(saved, largest_rows(snapshot, _AREAS))),
        blocks=None,
        checks=None,
        series=verify_text(saved),
        problems=snapshot.problems,
    )


def _tops(snapshot: Snapshot) -> Tuple[Top, ...]:
    return tuple(sum_areas(snapshot, by) for by in ("caller", "module", "kind"))
