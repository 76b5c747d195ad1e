# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Show what changed between two moments: two files of "vmap ls --json", slices,
vmcores, or copies of /proc/vmallocinfo, in any combination.

Needs no kernel: the files may be from a live kernel and a vmcore, from another
machine or from last week. It tells which callers hold more than before, the
largest growth first, which is where to look for a leak; and which areas in use
were added, removed, or have another size or number of pages than before.

  vmap ls --json > monday.json
  vmap slice -o friday.slice
  vmap diff monday.json friday.slice
  vmap diff bundle1/proc/vmallocinfo bundle2/proc/vmallocinfo

If a copy of /proc/vmallocinfo has no addresses, or has hashed ones and the
other file has not, or if the two are of two boots, areas are matched by caller
and size.

A file that holds several snapshots one behind the other, as a loop writes them,
is enough: the first is compared with the last, and --over-time shows what each
caller holds in each.

  while sleep 60; do date; cat /proc/vmallocinfo; done > log
  vmap diff log --over-time

Exit status: 0 if nothing changed, 1 if something did, parts of a vmcore could
not be read or lines of a text were left out, 2 if a file does not fit.
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Iterator, Optional, Tuple

from ..analyses.describe import describe
from ..analyses.diff import compare_moments, moment_of_areas, moment_of_text
from ..analyses.over_time import over_time
from ..analyses.saved import areas_from_json
from ..analyses.saved_text import texts_in
from ..errors import UsageError
from ..model.file_starts import VMCORES
from ..model.saved import Compared, SavedText
from ..render.diff import diff_json, diff_text
from ..render.over_time import over_time_json, over_time_text
from ..render.records import document, kernel_json
from . import EXIT_FOUND
from .common import (
    add_json,
    count,
    problem_status,
    terminal_width,
    warn_of_problems,
    write_text,
)
from .streams import tell
from .texts import is_json, read_text, saved_text

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run")

_ROWS_FOR_PEOPLE = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``diff``."""
    parser.add_argument(
        "old", metavar="OLD", help="of the earlier moment, or a file with several"
    )
    parser.add_argument("new", metavar="NEW", nargs="?", help="of the later moment")
    parser.add_argument(
        "-n",
        metavar="N",
        type=count,
        dest="rows",
        default=_ROWS_FOR_PEOPLE,
        help="print at most N callers and N areas of each list, 0 for all "
        f"(default: {_ROWS_FOR_PEOPLE}; --json has all)",
    )
    parser.add_argument(
        "--over-time",
        action="store_true",
        help="of one file with several snapshots: what each caller holds in each",
    )
    add_json(parser)


def run(target: Optional["Target"], args: argparse.Namespace) -> int:
    """Print what changed; no target is looked at."""
    if args.over_time:
        return _over_time(args)
    old, new = _both(args)
    found = compare_moments(old.moment, new.moment)
    problems = tuple(dict.fromkeys((*old.problems, *new.problems)))
    if args.json:
        sys.stdout.write(diff_json(found, old, new))
    else:
        rows = args.rows or sys.maxsize
        write_text(diff_text(found, rows, terminal_width()))
        warn_of_problems("diff", problems)
        for note in (*found.notes, *_of_two_kernels(old, new)):
            tell("vmap diff", note)
    return EXIT_FOUND if found else problem_status(problems)


def _over_time(args: argparse.Namespace) -> int:
    if args.new is not None:
        raise UsageError("--over-time is about one file: give no other")
    texts = _snapshots(args.old)
    found = over_time(texts)
    problems = tuple(
        dict.fromkeys(one for text in texts for one in text.snapshot.problems)
    )
    if args.json:
        body = over_time_json(found)
        sys.stdout.write(document("diff", None, problems, **body))
    else:
        rows = args.rows or sys.maxsize
        write_text(over_time_text(found, rows, terminal_width()))
        warn_of_problems("diff", problems)
    return EXIT_FOUND if found.changed else problem_status(problems)


def _both(args: argparse.Namespace) -> Tuple[Compared, Compared]:
    if args.new is not None:
        return _read(args.old), _read(args.new)
    texts = _snapshots(args.old)
    return _of_text(texts[0]), _of_text(texts[-1])


def _snapshots(name: str) -> Tuple[SavedText, ...]:
    text = read_text(name)
    texts = texts_in(text.name, text.data)
    if len(texts) < 2:
        raise UsageError(f"{name} has but one snapshot: give a second file")
    return texts


def _read(name: str) -> Compared:
    if _is_vmcore(name):
        return _of_vmcore(name)
    text = read_text(name)
    if not is_json(text):
        return _of_text(saved_text(text))
    saved = areas_from_json(name, text.data.decode("utf-8", "backslashreplace"))
    moment = moment_of_areas(saved.areas, saved.pointers)
    return Compared(name, moment, saved.kernel, saved.problems)


def _of_text(saved: SavedText) -> Compared:
    moment, problems = moment_of_text(saved), saved.snapshot.problems
    return Compared(saved.name, moment, None, problems, saved.title)


def _of_two_kernels(old: Compared, new: Compared) -> Iterator[str]:
    releases = [side.kernel and side.kernel.get("release") for side in (old, new)]
    if None not in releases and releases[0] != releases[1]:
        yield f"these are of two kernels: {releases[0]} and {releases[1]}"


def _is_vmcore(name: str) -> bool:
    if not os.path.isfile(name):
        # Whoever reads it tells why it cannot be read.
        return False
    try:
        with open(name, "rb") as file:
            return file.read(16).startswith(VMCORES)
    except (OSError, ValueError):
        return False


def _of_vmcore(name: str) -> Compared:
    # Not at the top of the file: other files are compared without drgn.
    from ..kernel.opening import open_target
    from ..kernel.vmalloc.snapshot import take_snapshot

    with open_target(core=name) as target:
        snapshot = take_snapshot(target)
    moment = moment_of_areas(tuple(describe(snapshot)))
    return Compared(name, moment, kernel_json(snapshot.kernel), snapshot.problems)
