# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How tests run the project: as a person would, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.lab.vmcore import Vmcore
from tests.sources import ROOT

__all__ = (
    "LIVE",
    "answers",
    "command",
    "drgn",
    "on_vmcore",
    "run_on",
    "script",
    "target_of",
    "without_drgn",
)

LIVE = "drgn -q -c /proc/kcore"
"""What a script's name follows to run on a guest's own kernel."""

SECONDS = 300


def drgn(*words: object) -> subprocess.CompletedProcess[str]:
    """Run drgn, at the top of the checkout."""
    return _run("-m", "drgn", "-q", *map(str, words))


def target_of(vmcore: Vmcore) -> list[object]:
    """Return how to open a vmcore, with types and names from its debug info."""
    return ["-c", vmcore.path, "-s", vmcore.kernel.vmlinux]


def run_on(vmcore: Vmcore, *words: object) -> str:
    """Return what a script prints of a vmcore, when nothing was wrong."""
    done = drgn(*target_of(vmcore), *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def on_vmcore(vmcore: Vmcore, verb: str, *args: str) -> Any:
    """Return the JSON of a verb, when nothing was wrong."""
    return json.loads(run_on(vmcore, f"scripts/vmap_{verb}.py", "--json", *args))


def answers(*target: object) -> Any:
    """Return what every verb says of a target."""
    done = drgn(*target, "tests/samples/answers.py")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def command(verb: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run the command ``vmap``."""
    return _run("-m", "drgn_vmap", verb, *map(str, args))


def script(verb: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a script with plain Python, as on a machine without the kernel."""
    return _run(f"scripts/vmap_{verb}.py", *args)


def without_drgn(verb: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python where an import of drgn fails."""
    path = f"scripts/vmap_{verb}.py"
    code = (
        f"import runpy, sys; sys.argv = {[path, *args]!r}; "
        f"sys.modules['drgn'] = None; runpy.run_path({path!r}, run_name='__main__')"
    )
    return _run("-c", code)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python at the top of the checkout; no line end is made another one."""
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=SECONDS)
    out, err = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(command, done.returncode, out, err)
