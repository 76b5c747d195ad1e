# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Check whether the kernel's vmalloc data structures are consistent.

Holds lists against trees, areas against blocks and page tables, counters
against what they count. Each check is "ok"; "failed", with the address of what
is wrong; "explainable", if what it found is legal for a moment and somebody may
have been at just that moment, or if healthy kernels may have it; or "skipped",
with the reason.

On a live kernel all is read again, up to 20 times within some seconds. What a
reading no longer has was a moment and is forgotten; what is the same in each of
them, while the kernel moves on, is damage.

Exit status: 0 if no check failed, 1 if one did or what is mapped in a vmcore
could not be read, or 2 if it cannot.
"""

import argparse
import sys
import time
from typing import TYPE_CHECKING, Tuple

from ..analyses.fsck import confirmed, judge_lasting, run_checks
from ..kernel.vmalloc.inspection import inspect
from ..model.areas import ProblemKind
from ..model.inspection import Check, Inspection, Verdict
from ..render.fsck import check_json, check_lines
from ..render.records import document
from . import EXIT_FOUND
from .common import add_json, problem_status, warn_of_problems, write_text

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "inspect_and_check", "run")

_LIVE_REREADS = 20
"""
A range that comes and goes may be missed in any of them, as one list is read after
another. Under the lab's stress, one was missed in each of five readings once in three runs.
"""
_SECONDS_BETWEEN = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fsck``."""
    add_json(parser)


def run(target: "Target", args: argparse.Namespace) -> int:
    """Print the outcome of all checks."""
    found, checks = inspect_and_check(target)
    problems = tuple(dict.fromkeys((*found.snapshot.problems, *found.blocks.problems)))
    unsupported = [p for p in problems if p.what == ProblemKind.UNSUPPORTED]
    kernel = found.snapshot.kernel
    if args.json:
        body = {"checks": [check_json(check) for check in checks]}
        sys.stdout.write(document("fsck", kernel, problems, **body))
    else:
        write_text(check_lines(checks))
        # All others are failures of the check that everything can be read.
        warn_of_problems("fsck", unsupported)
    if any(check.verdict == Verdict.FAILED for check in checks):
        return EXIT_FOUND
    return problem_status(unsupported)


def inspect_and_check(target: "Target") -> Tuple[Inspection, Tuple[Check, ...]]:
    """Run the checks, on a live kernel so often that only what stays is left."""
    found = inspect(target)
    checks = run_checks(found)
    if not found.snapshot.kernel.live:
        return found, checks
    for _ in range(_LIVE_REREADS):
        if not any(check.failures for check in checks):
            break
        time.sleep(_SECONDS_BETWEEN)
        found = inspect(target)
        checks = confirmed(checks, run_checks(found))
    return found, judge_lasting(checks, 1 + _LIVE_REREADS)
