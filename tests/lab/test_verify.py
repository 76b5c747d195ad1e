# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap verify` of real kernels, live and from their vmcores. Which kernel has the
series is known from its history; what a wrong page held, from the fixture module.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from .conftest import Vmcore
from .test_addr import ROOT

#: What debug info and memory tell of patches 1 to 3, and the architecture of 6 and 7.
WITHOUT, WITH = ["no"] * 3, ["yes"] * 3
ELSEWHERE = ["not-applicable"] * 2
#: Kernels of the lab that lack the series; later and patched ones have it.
OLD = ("5.10", "6.1", "6.1-plain")


def verdicts(found: dict[str, Any]) -> list[str]:
    """Return the verdict of each patch, in order."""
    assert [patch["number"] for patch in found["patches"]] == list(range(1, 8))
    return [patch["verdict"] for patch in found["patches"]]


def test_vmcore(vmcore: Vmcore) -> None:
    """Each patch that memory can show, and unknown where it cannot."""
    command = [sys.executable, "-m", "drgn", "-q", "-c", str(vmcore.path)]
    command += ["-s", str(vmcore.kernel.vmlinux), "scripts/vmap_verify.py", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300)
    assert done.stderr == b""
    found, old = json.loads(done.stdout), vmcore.kernel.name in OLD
    assert verdicts(found) == [
        *(WITHOUT if old else WITH),
        *["unknown"] * 2,
        *ELSEWHERE,
    ]
    assert found["verdict"] == ("not-fixed" if old else "fixed")
    assert (found["findings"], found["problems"]) == ([], [])
    assert done.returncode == (1 if old else 0)
