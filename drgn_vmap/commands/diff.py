# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Show what changed between two moments: two files of "vmap ls --json", slices,
vmcores, or copies of /proc/vmallocinfo, in any combination.

Needs no kernel: the files may be from a live kernel and a vmcore, from another
machine or from last week. It tells which callers hold more than before, the
largest growth first, which is where to look for a leak; and which areas in use
were added, removed, or have another size or number of pages than before.

  drgn -k scripts/vmap_ls.py --json > monday.json
  drgn -k scripts/vmap_slice.py -o friday.slice
  python3 scripts/vmap_diff.py monday.json friday.slice
  python3 scripts/vmap_diff.py bundle1/proc/vmallocinfo bundle2/proc/vmallocinfo

If a copy of /proc/vmallocinfo has no addresses, or has hashed ones and the other
file has not, areas are matched by caller and size.

Exit status: 0 if nothing changed, 1 if something did or parts of a vmcore could not
be read, 2 if a file does not fit.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Optional

from ..analyses.describe import describe
from ..analyses.diff import compare
from ..analyses.saved import areas_from_json
from ..analyses.saved_text import areas_from_text, describe_saved
from ..model.saved import SavedAreas
from ..render.diff import diff_json, diff_text
from ..render.records import kernel_json
from . import EXIT_FOUND
from .common import (
    add_json,
    count,
    problem_status,
    read_file,
    terminal_width,
    warn_of_problems,
    write_text,
)
from .streams import tell

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run")

_ROWS_FOR_PEOPLE = 20
_VMCORE_STARTS = (b"\x7fELF", b"KDUMP", b"makedumpfile")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``diff``."""
    parser.add_argument("old", metavar="OLD", help="of the earlier moment")
    parser.add_argument("new", metavar="NEW", help="of the later moment")
    parser.add_argument(
        "-n",
        metavar="N",
        type=count,
        dest="rows",
        default=_ROWS_FOR_PEOPLE,
        help="print at most N callers and N areas of each list, 0 for all "
        f"(default: {_ROWS_FOR_PEOPLE}; --json has all)",
    )
    add_json(parser)


def run(target: Optional["Target"], args: argparse.Namespace) -> int:
    """Print what changed; no target is looked at."""
    old, new = _read(args.old), _read(args.new)
    by_address = old.pointers == new.pointers != "none"
    found = compare(old.areas, new.areas, by_address)
    problems = (*old.problems, *new.problems)
    if args.json:
        sys.stdout.write(diff_json(found, old, new))
    else:
        rows = args.rows or sys.maxsize
        write_text(diff_text(found, rows, terminal_width()))
        warn_of_problems("diff", problems)
        if not by_address:
            note = "areas were matched by caller and size: addresses tell nothing"
            tell("vmap diff", note)
    return EXIT_FOUND if found else problem_status(problems)


def _read(name: str) -> SavedAreas:
    if _is_vmcore(name):
        return _of_vmcore(name)
    text = read_file(name)
    if not text.startswith("0x"):
        return areas_from_json(name, text)
    saved = areas_from_text(name, text)
    areas, problems = tuple(describe_saved(saved)), saved.snapshot.problems
    return SavedAreas(name, None, areas, saved.pointers, problems)


def _is_vmcore(name: str) -> bool:
    try:
        with open(name, "rb") as file:
            return file.read(16).startswith(_VMCORE_STARTS)
    except (OSError, ValueError):
        # Whoever reads it tells why it cannot be read.
        return False


def _of_vmcore(name: str) -> SavedAreas:
    # Not at the top of the file: other files are compared without drgn.
    from ..kernel.target import open_vmcore
    from ..kernel.vmalloc.snapshot import take_snapshot

    with open_vmcore(name) as target:
        snapshot = take_snapshot(target)
    kernel, areas = kernel_json(snapshot.kernel), tuple(describe(snapshot))
    return SavedAreas(name, kernel, areas, problems=snapshot.problems)
