# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is told at the end of a run, also where other processes ran the tests."""

from __future__ import annotations

import pytest

from tests.lab.kernels import FOREIGN_KERNELS
from tests.lab.sh_kernel import SH_KERNELS

OTHERS = (*FOREIGN_KERNELS, *SH_KERNELS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which kernels of other architectures were tried, after all the skips."""
    tried = foreign_kernels(terminalreporter, "passed", "failed", "error")
    if tried or foreign_kernels(terminalreporter, "skipped"):
        others = [name for name in OTHERS if name not in tried]
        terminalreporter.section("kernels of other architectures")
        terminalreporter.line(f"tried: {', '.join(tried) or 'none'}")
        terminalreporter.line(f"not tried: {', '.join(others) or 'none'}")


def foreign_kernels(reporter: pytest.TerminalReporter, *outcomes: str) -> list[str]:
    """Return the kernels of other architectures that some tests had such outcomes on."""
    reports = [one for outcome in outcomes for one in reporter.getreports(outcome)]
    found = {one.nodeid.partition("[")[2].partition("]")[0] for one in reports}
    return [name for name in OTHERS if name in found]
