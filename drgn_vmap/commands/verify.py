# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Tell whether the vm_map_ram series is in a kernel.

/proc/kcore returned zeros for memory that vm_map_ram() mapped, until the series
"mm/vmalloc.c: allow vread() to read out vm_map_ram areas" (v6.3, 7 patches).
Kernels of distributions may have it, or parts of it, whatever their version
says. For each patch this tells:

  yes, no          it is there or not
  unknown          nothing at hand tells
  not-applicable   it is about another architecture

with the evidence, and how much that proves: "certain", "strong" or "weak". The
verdict is "fixed" if patches 1 to 3 are there, "not-fixed" if none of them is,
or "partial".

The finding "vmap-block-reader" says that /proc/kcore returns the wrong page of
a vmap_block, as it does in each kernel known with the series. On a running
kernel it is measured; where that cannot be, as of a vmcore, it is "unknown",
and no success.

  vmap verify
  vmap verify --json
  vmap verify --from bundle/proc/vmallocinfo    patches 6 and 7 alone

Exit status: 0 if it is fixed and nothing else was found, 1 if not, or 2 if it
cannot.
"""

import argparse
import sys
from typing import TYPE_CHECKING, List, Optional, Sequence, Union

from ..analyses.check import Scope
from ..analyses.verify import verify, verify_text
from ..analyses.verify_ram import unmarked_rows
from ..errors import VmapError
from ..model.areas import Snapshot
from ..model.blocks import Blocks
from ..model.kcore import CheckedArea
from ..model.series import SeriesVerdict, Verification
from ..render.records import document
from ..render.verify import verification_json, verification_lines
from . import EXIT_FOUND
from .common import (
    add_from,
    add_json,
    problem_status,
    warn_of_problems,
    write_text,
)
from .texts import open_saved

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run", "verify_kernel")

_LIVE_REREADS = 3
_PAGES_READ = 4096
"""Of vm_map_ram areas, and of blocks, on a running kernel."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``verify``."""
    add_json(parser)
    add_from(parser)


def run(target: Optional["Target"], args: argparse.Namespace) -> int:
    """Print what was found of each patch."""
    if target is None:
        saved = open_saved(args)
        found, kernel = verify_text(saved), None
        problems = saved.snapshot.problems
    else:
        # Not at the top of the file: --from works without drgn.
        from ..kernel.vmalloc.series import take_blocks_if_any

        snapshot = _settled_snapshot(target)
        blocks, lost = take_blocks_if_any(target)
        found, kernel = verify_kernel(target, snapshot, blocks), snapshot.kernel
        problems = tuple(dict.fromkeys((*snapshot.problems, *lost)))
    if args.json:
        body = verification_json(found)
        sys.stdout.write(document("verify", kernel, problems, **body))
    else:
        write_text(verification_lines(found))
        warn_of_problems("verify", problems)
    if found.verdict != SeriesVerdict.FIXED or found.findings:
        return EXIT_FOUND
    return problem_status(problems)


def verify_kernel(
    target: "Target", snapshot: Snapshot, blocks: Optional[Blocks]
) -> Verification:
    """Judge a kernel by what was read of it."""
    from ..kernel.vmalloc.series import series_signs

    return verify(snapshot, blocks, series_signs(target), _read(target, snapshot))


def _read(target: "Target", snapshot: Snapshot) -> Union[Sequence[CheckedArea], str]:
    """Read some of what vm_map_ram() mapped through /proc/kcore, if there is one."""
    from .measure import measure

    if not snapshot.kernel.live:
        return (
            "a vmcore does not show what /proc/kcore returned, nor whether that was the "
            "right page of a block"
        )
    areas: List[CheckedArea] = []
    try:
        for kind in ("vm_map_ram", "vmap_block"):
            scope = Scope([kind], limit_pages=_PAGES_READ)
            areas += measure(target, scope, lambda done, total: None).areas
    except VmapError as e:
        return str(e)
    return areas


def _settled_snapshot(target: "Target") -> Snapshot:
    """Read areas, of a live kernel until none is just in the making."""
    from ..kernel.vmalloc.snapshot import take_snapshot

    snapshot = take_snapshot(target)
    for _ in range(_LIVE_REREADS if snapshot.kernel.live else 0):
        if not (snapshot.kernel.has_va_flags and len(unmarked_rows(snapshot))):
            break
        snapshot = take_snapshot(target)
    return snapshot
