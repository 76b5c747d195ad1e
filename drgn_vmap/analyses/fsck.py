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

__all__ = ("confirmed", "judge_lasting", "run_checks")

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


def judge_lasting(checks: Sequence[Check], readings: int) -> Tuple[Check, ...]:
    """
    Judge what a live kernel had each time: a moment passes, damage stays.

    :param checks: With those failures alone that were found in each reading.
    :param readings: How many there were.
    """
    return tuple(_judge_lasting(check, readings) for check in checks)


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
        return Verdict.EXPLAINABLE, _excuses(failures)
    windows = _windows(unexcused)
    if "" in windows:
        return Verdict.FAILED, ""
    during = f"legal {'; '.join(windows)}"
    if found.snapshot.kernel.live:
        return Verdict.EXPLAINABLE, f"{during}; the kernel is running"
    if found.activity:
        return Verdict.EXPLAINABLE, f"{during}; {', '.join(found.activity)}"
    return Verdict.FAILED, f"{during}; but nobody was at it"


def _excuses(failures: Sequence[Failure]) -> str:
    return "; ".join(sorted({failure.excuse for failure in failures}))


def _windows(failures: Sequence[Failure]) -> Sequence[str]:
    return sorted({failure.window for failure in failures})


def _judge_lasting(check: Check, readings: int) -> Check:
    unexcused = [failure for failure in check.failures if not failure.excuse]
    if not check.failures:
        return check
    if not unexcused:
        excuses = _excuses(check.failures)
        return replace(check, verdict=Verdict.EXPLAINABLE, reason=excuses)
    reason = f"the same each of {readings} times it was read"
    windows = "; ".join(filter(None, _windows(unexcused)))
    if windows:
        reason += f", and legal for a moment alone, {windows}"
    return replace(check, verdict=Verdict.FAILED, reason=reason)


def _confirm(first: Check, second: Check) -> Check:
    again = {(failure.address, failure.same_as) for failure in second.failures}
    kept = tuple(f for f in first.failures if (f.address, f.same_as) in again)
    if kept or first.verdict == Verdict.SKIPPED:
        return replace(first, failures=kept)
    return replace(first, verdict=Verdict.OK, failures=(), reason="")
