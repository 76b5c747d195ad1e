# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Consistency
-----------

Holds what a kernel says in one place against what it says in another. Each check
is a small function in a table; those of areas and of blocks have their own files.
"""

from dataclasses import replace
from typing import Sequence, Tuple

from ..model.inspection import Check, Failure, Inspection, Verdict
from .fsck_areas import AREA_CHECKS
from .fsck_blocks import BLOCK_CHECKS
from .outcome import CheckFunction, Outcome, Skip

__all__ = ("confirmed", "run_checks")

_CHECKS: Sequence[Tuple[str, str, CheckFunction]] = (*AREA_CHECKS, *BLOCK_CHECKS)


def run_checks(found: Inspection) -> Tuple[Check, ...]:
    """Run all checks."""
    return tuple(
        _judge(found, id_, title, check(found)) for id_, title, check in _CHECKS
    )


def confirmed(before: Sequence[Check], after: Sequence[Check]) -> Tuple[Check, ...]:
    """
    Return checks of a live kernel with only those failures that were found twice.

    :param after: The same checks on what was read anew.
    """
    return tuple(_confirm(first, second) for first, second in zip(before, after))


def _judge(found: Inspection, id_: str, title: str, outcome: Outcome) -> Check:
    if isinstance(outcome, Skip):
        return Check(id_, title, Verdict.SKIPPED, 0, (), outcome.reason)
    verdict, reason = _verdict(found, outcome.failures)
    failures = tuple(outcome.failures)
    return Check(id_, title, verdict, outcome.checked, failures, reason)


def _verdict(found: Inspection, failures: Sequence[Failure]) -> Tuple[Verdict, str]:
    """Tell damage from a moment that an allocation or a purge passes through."""
    if not failures:
        return Verdict.OK, ""
    if found.snapshot.kernel.live and found.snapshot.problems:
        # What was read is not of one moment, so it proves nothing.
        return Verdict.EXPLAINABLE, "areas changed while they were read"
    unexcused = [failure for failure in failures if not failure.excuse]
    if not unexcused:
        excuses = sorted({failure.excuse for failure in failures})
        return Verdict.EXPLAINABLE, "; ".join(excuses)
    windows = sorted({failure.window for failure in unexcused})
    if "" in windows:
        return Verdict.FAILED, ""
    during = f"legal {'; '.join(windows)}"
    if found.snapshot.kernel.live:
        return Verdict.EXPLAINABLE, f"{during}; the kernel is running"
    if found.activity:
        return Verdict.EXPLAINABLE, f"{during}; {', '.join(found.activity)}"
    return Verdict.FAILED, f"{during}; but nobody was at it"


def _confirm(first: Check, second: Check) -> Check:
    again = {(failure.address, failure.text) for failure in second.failures}
    kept = tuple(f for f in first.failures if (f.address, f.text) in again)
    if kept or first.verdict == Verdict.SKIPPED:
        return replace(first, failures=kept)
    return replace(first, verdict=Verdict.OK, failures=(), reason="")
