# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
List vmalloc areas.

By default, prints what /proc/vmallocinfo would print on that kernel at that
moment, byte for byte but for addresses, which are real ones unless --pointers
says otherwise. It works where the file does not exist, as in a vmcore. Other
formats add what the file leaves out.

Exit status: 0, or 1 if parts of a vmcore could not be read, or 2 if it cannot.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Iterable

from ..analyses.describe import describe
from ..analyses.kinds import KINDS
from ..analyses.select import SORTS, Selection, select_rows
from ..kernel.pointers import pointer_policy
from ..kernel.snapshot import take_snapshot
from ..model import Area, Snapshot
from ..render.pointers import MODES, pointer_format
from ..render.proc import proc_lines
from ..render.records import area_csv, area_json, area_table, document
from .common import (
    address_range,
    number,
    one_of_each,
    problem_status,
    warn_of_problems,
)

if TYPE_CHECKING:
    from drgn import Program

__all__ = ("add_arguments", "run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``ls``."""
    form = parser.add_argument_group("what to print")
    form.add_argument(
        "--format",
        choices=("proc", "table", "json", "csv"),
        default="proc",
        help="proc: lines of /proc/vmallocinfo (default); table: columns for people; "
        "json, csv: for programs",
    )
    form.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help="--format json",
    )
    form.add_argument(
        "--pointers",
        choices=MODES,
        default="raw",
        help="addresses in format proc: raw (default), as they are; auto, as this "
        "kernel prints them to root; hashed, with this kernel's key; zero",
    )
    form.add_argument(
        "--sort",
        choices=SORTS,
        default="kernel",
        help="kernel: in the order of /proc/vmallocinfo (default); address; "
        "size or pages, largest first",
    )
    which = parser.add_argument_group("which areas")
    which.add_argument(
        "--kind",
        metavar="K[,K...]",
        type=one_of_each(KINDS),
        default=[],
        help=f"only areas of any of these kinds: {', '.join(KINDS)}",
    )
    which.add_argument(
        "--caller",
        metavar="GLOB",
        help="only areas whose caller matches, such as 'alloc_thread*'",
    )
    which.add_argument(
        "--min-size",
        metavar="BYTES",
        type=number,
        default=0,
        help="only areas of at least this size",
    )
    which.add_argument(
        "--range",
        metavar="START-END",
        type=address_range,
        help="only areas that overlap these addresses",
    )
    which.add_argument(
        "--all",
        action="store_true",
        help="also ranges that are being purged, pooled for reuse, or free",
    )


def run(prog: "Program", args: argparse.Namespace) -> int:
    """Print the areas that the arguments select."""
    policy = None
    if args.format == "proc" and args.pointers in ("auto", "hashed"):
        policy = pointer_policy(prog)
    snapshot = take_snapshot(prog, all_states=args.all)
    selection = Selection(args.kind, args.caller, args.min_size, args.range, args.sort)
    rows = select_rows(snapshot, selection, as_listed=args.format == "proc")
    if args.format == "proc":
        word_size = snapshot.kernel.word_size
        pointers = pointer_format(args.pointers, word_size, policy)
        texts: Iterable[str] = proc_lines(snapshot, rows, pointers)
    else:
        texts = [_records(snapshot, describe(snapshot, rows), args.format)]
    for text in texts:
        sys.stdout.write(text)
    if args.format != "json":
        warn_of_problems("ls", snapshot.problems)
    return problem_status(snapshot.problems)


def _records(snapshot: Snapshot, areas: Iterable[Area], form: str) -> str:
    if form == "csv":
        return area_csv(areas)
    if form == "table":
        return area_table(areas)
    return document(
        "ls",
        snapshot.kernel,
        snapshot.problems,
        areas=[area_json(area) for area in areas],
    )
