# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `verify` has to say of a copy of /proc/vmallocinfo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from tests.running import script

__all__ = ("expect_patch_7", "judged")


def judged(path: Path) -> Dict[str, Any]:
    """Return what is said of a copy of /proc/vmallocinfo, from the command line."""
    done = script("verify", "--from", str(path), "--json")
    assert (done.returncode, done.stderr) == (1, "")
    document: Dict[str, Any] = json.loads(done.stdout)
    return document


def expect_patch_7(path: Path, verdict: str) -> None:
    """Expect a text of the lab's sh guest to tell, by both of its store queues."""
    *others, six, seven = judged(path)["patches"]
    assert {patch["verdict"] for patch in others} == {"unknown"}
    assert (six["verdict"], seven["verdict"]) == ("not-applicable", verdict)
    flag, sure = ("VM_IOREMAP", "weak") if verdict == "yes" else ("VM_ALLOC", "strong")
    # Nothing but these areas tells that it is not powerpc.
    assert six["strength"] == seven["strength"] == sure
    driver, sysfs = seven["evidence"]
    for line, caller, where in (
        (driver, "sq_user_init", "0xe0000000-0xe0003000"),
        (sysfs, "mapping_store", "0xe0004000-0xe0009000"),
    ):
        assert caller in line and where in line and line.endswith(f"has {flag}")
