# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Vmcores of guests in which the fixture module made many areas or blocks."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator

from tests.lab.fixture_module import load_fixture_module
from tests.lab.guest import Guest
from tests.lab.kernels import ALL_KERNELS

__all__ = ("Target", "target")

BASE_MIB = 1024
BYTES_AN_AREA = 6144
"""Of guest memory: structs, a page, page tables, and what the module notes down."""

MAKING_SECONDS = 3600.0
LIVE_SECONDS = 1200.0
DRGN = "drgn -q -c /proc/kcore"
LS = "scripts/vmap_ls.py"
LIVE = {
    "cat": "cat /proc/vmallocinfo",
    "drgn alone": f"{DRGN} -e pass",
    "ls": f"{DRGN} {LS}",
    "vmap ls": "python3 -m drgn_vmap ls",
}


FORMATS = ("elf", "kdump", "kdump-zlib")
"""
The last one is QEMU's: what a crashed host's makedumpfile would send through a pipe, which
takes longer to open. kdump is the same as it would write it to a disk.
"""


@dataclass(frozen=True)
class Target:
    """A kernel with so many more areas, or blocks."""

    kernel: str
    areas: int
    blocks: int
    vmlinux: Path
    vmcores: dict[str, Path]
    """By :data:`FORMATS`."""

    live: dict[str, float]
    """Seconds in the guest itself, where that was asked for."""

    live_reads: dict[str, int]
    """How many ``reads`` of how many ``bytes`` ls took there."""


@contextmanager
def target(
    kernel: str,
    areas: int,
    blocks: int,
    live: bool,
    keep: Path | None,
) -> Iterator[Target]:
    """
    Make a guest and its vmcores.

    :param live: Also time what runs in the guest itself.
    :param keep: Where vmcores are left, and found; else they are gone in the end.
    """
    with TemporaryDirectory(dir="/var/tmp") as directory:
        base = Path(keep or directory) / f"{kernel}-{areas}-{blocks}"
        base.parent.mkdir(parents=True, exist_ok=True)
        vmcores = {name: base.with_name(f"{base.name}.{name}") for name in FORMATS}
        times: dict[str, float] = {}
        reads: dict[str, int] = {}
        if live or not all(path.exists() for path in vmcores.values()):
            with _guest(kernel, areas, blocks, live) as guest:
                if live:
                    times, reads = _live_seconds(guest), _live_reads(guest)
                for name in ("elf", "kdump-zlib"):
                    guest.dump(vmcores[name], name)
            _rearrange(vmcores["kdump-zlib"], vmcores["kdump"])
        vmlinux = ALL_KERNELS[kernel].vmlinux
        yield Target(kernel, areas, blocks, vmlinux, vmcores, times, reads)


def _rearrange(flat: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    command = ["makedumpfile", "-R", str(path)]
    with flat.open("rb") as file:
        subprocess.run(command, stdin=file, check=True, capture_output=True)


@contextmanager
def _guest(kernel: str, areas: int, blocks: int, live: bool) -> Iterator[Guest]:
    memory_mib = BASE_MIB + areas * BYTES_AN_AREA // (1 << 20)
    with Guest.boot(kernel, memory_mib=memory_mib, debug_info=live) as guest:
        load_fixture_module(guest)
        for command in (f"many {areas}", f"blocks {blocks}"):
            guest.write("/proc/vmap_lab", command.encode(), timeout=MAKING_SECONDS)
        yield guest


def _live_seconds(guest: Guest) -> dict[str, float]:
    """Time the kernel's own file and ``ls`` in the guest, one after the other."""
    times = {}
    # As whatever installs the package does; what is left is done by each command's first run.
    compiled = guest.run("python3 -m compileall -q drgn_vmap", LIVE_SECONDS)
    assert compiled.status == 0, compiled.stderr
    for name, command in LIVE.items():
        timed = f"TIMEFORMAT=%R; time {command} > /dev/null"
        result = guest.run(timed, LIVE_SECONDS)
        assert result.status == 0, result.stderr
        (seconds,) = re.findall(rb"^(\d+\.\d+)$", result.stderr, re.M)
        times[name] = float(seconds)
    return times


def _live_reads(guest: Guest) -> dict[str, int]:
    counted = guest.run(f"{DRGN} tests/lab/inside/count_reads.py ls", LIVE_SECONDS)
    assert counted.status == 0, counted.stderr
    reads: dict[str, int] = json.loads(counted.stdout)
    return reads
