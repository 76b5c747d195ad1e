# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Store queues of sh, in the /proc/vmallocinfo of two kernels that differ in one patch of
the series, against what sysfs says of them.

There is no vmcore of such a guest. Building the kernels takes minutes, so they are tried
if they are built already, or VMAP_FOREIGN=all asks for it.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.expect.series import expect_patch_7, judged
from tests.running import script

from . import sh_guest
from .sh_kernel import SH_KERNELS, ShKernel
from .support import NO_SYMBOLS, shows

PAGE = 4096
MAPPING = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8}) \[([0-9a-f]{8})\]: (.+)")


@dataclass(frozen=True)
class Shown:
    """What a guest showed of itself."""

    kernel: ShKernel
    mapping: str
    """What sysfs says of store queues."""
    hashed: str
    """/proc/vmallocinfo, with hashed addresses."""
    raw: str
    """/proc/vmallocinfo a moment later, with real ones."""


def why_not(kernel: ShKernel) -> str | None:
    """Return why a kernel is not tried here; None if it is."""
    if not shutil.which(sh_guest.QEMU):
        return f"{sh_guest.QEMU} is not installed (package qemu-system-misc)"
    if kernel.is_built or os.environ.get("VMAP_FOREIGN") == "all":
        return None
    return "it is not built, and VMAP_FOREIGN=all not set"


@pytest.fixture(scope="session", params=SH_KERNELS)
def shown(request: pytest.FixtureRequest, lab: None) -> Shown:
    """One boot of each kernel."""
    kernel = SH_KERNELS[request.param]
    reason = why_not(kernel)
    if reason:
        pytest.skip(f"{kernel.name}: {reason}")
    (_, mapping), (_, hashed), (_, raw) = sh_guest.boot(kernel)
    return Shown(kernel, mapping, hashed, raw)


def test_queues_are_listed(shown: Shown) -> None:
    """Each mapping that sysfs names is an area, marked as the patch has it, or not."""
    label = "ioremap" if shown.kernel.has_patch else "vmalloc"
    queues = MAPPING.findall(shown.mapping)
    assert len(queues) == len(shown.mapping.splitlines()) == 2
    for start, end, phys, _ in queues:
        # The area has a guard page behind it.
        area = f"0x{start}-{int(end, 16) + PAGE:#x}"
        [line] = [line for line in shown.raw.splitlines() if line.startswith(area)]
        assert line.endswith(f" phys=0x{phys} {label}")


@shows("text", NO_SYMBOLS)
def test_every_line(shown: Shown, tmp_path: Path) -> None:
    """Each line is understood, and comes back as it was."""
    for text in (shown.hashed, shown.raw):
        path = tmp_path / "vmallocinfo"
        path.write_text(text)
        done = script("ls", "--from", str(path))
        assert (done.returncode, done.stderr, done.stdout) == (0, "", text)


def test_verify(shown: Shown, tmp_path: Path) -> None:
    """The text tells whether the patch is there, as the sample of such a kernel does."""
    path = tmp_path / "vmallocinfo"
    path.write_text(shown.raw)
    expect_patch_7(path, "yes" if shown.kernel.has_patch else "no")


def test_verify_without_addresses(shown: Shown, tmp_path: Path) -> None:
    """Then only the old label tells: nobody else has it along with an address."""
    path = tmp_path / "vmallocinfo"
    path.write_text(shown.hashed)
    found = judged(path)["patches"][6]["verdict"]
    assert found == ("unknown" if shown.kernel.has_patch else "no")
