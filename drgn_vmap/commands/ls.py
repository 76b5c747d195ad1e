# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
List vmalloc areas.

By default, prints what /proc/vmallocinfo would print on that kernel at that
moment, byte for byte but for addresses, which are real ones unless --pointers
says otherwise. It works where the file does not exist, as in a vmcore. Other
formats add what the file leaves out.

With --from, reads such a file that somebody saved. A line that does not fit is
named on standard error and left out. If its addresses are hashed, the hash
stands for an area's start in other formats than proc, and the end is made up by
the size.

  vmap ls --kind vmap_block,vm_map_ram --format table
  vmap ls --from bundle/proc/vmallocinfo --caller 'bpf_*' --json

Exit status: 0, or 1 if parts of a vmcore could not be read or lines of a text
were left out, or 2 if it cannot.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Iterable, Optional, Sequence, Tuple

from ..analyses.describe import describe
from ..analyses.kinds import KINDS
from ..analyses.select import SORTS, Selection, select_rows
from ..analyses.vmallocinfo import may_leave_out_lazy
from ..errors import UsageError
from ..model.areas import Problem
from ..render.escape import printable
from ..render.pointers import MODES, pointer_format
from ..render.proc import proc_lines
from ..render.records import (
    area_csv,
    area_document,
    area_json,
    area_table,
    csv_areas,
    json_areas,
    table_areas,
)
from .common import (
    add_from,
    address_range,
    count,
    problem_status,
    size,
    tell_of_no_match,
    terminal_width,
    warn_of_problems,
    write_text,
)
from .progress import Progress
from .streams import tell

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "check_arguments", "run")

_FILTERS = ("kind", "caller", "min-size", "range")
_Output = Tuple[Sequence[Problem], Iterable[str]]
"""What could not be read, and the texts to print."""

_UNSURE = (
    "the kernel's own file may not list unpurged areas now, as the last area in use is of "
    "vm_map_ram(): Linux 5.16 mended that, and nothing tells whether this kernel has it"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``ls``."""
    _add_form(parser.add_argument_group("what to print"))
    _add_filters(parser.add_argument_group("which areas"))
    add_from(parser)


def _add_form(form: "argparse._ArgumentGroup") -> None:
    form.add_argument(
        "--format",
        choices=("proc", "table", "json", "csv"),
        help="proc: lines of /proc/vmallocinfo (default); table: columns for people "
        "(default with --owners); json, csv: for programs",
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
    form.add_argument(
        "--owners",
        nargs="?",
        const="usual",
        choices=("usual", "deep"),
        help="also whose each area is, told by who points at it: a task, a module, a BPF "
        "program or map, a variable, …; --owners=deep also looks through all of RAM for "
        "slab objects that do; not in format proc",
    )


def _add_filters(which: "argparse._ArgumentGroup") -> None:
    which.add_argument(
        "-n",
        metavar="N",
        type=count,
        dest="rows",
        help="only the first N, as --sort has them; 0 for all (default)",
    )
    which.add_argument(
        "--kind",
        metavar="K[,K...]",
        type=lambda text: text.split(","),
        default=[],
        help=f"only areas of any of these kinds: {', '.join(KINDS)}; with --from, also "
        "labels that the text has beside these",
    )
    which.add_argument(
        "--caller",
        metavar="GLOB",
        help="only areas whose caller matches, such as 'alloc_thread*'",
    )
    which.add_argument(
        "--min-size",
        metavar="BYTES",
        type=size,
        default=0,
        help="only areas of at least this size; in bytes, or with K, M, G or T",
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


def check_arguments(args: argparse.Namespace) -> None:
    """
    See that arguments go together, before a target is opened for them.

    :raises UsageError: if they do not.
    """
    if args.owners and (args.saved is not None or args.format == "proc"):
        raise UsageError(
            "--owners is of a kernel, and not in its /proc/vmallocinfo: "
            "leave out --from, --format proc"
        )
    args.format = args.format or ("table" if args.owners else "proc")
    if args.saved is None:
        _check_kinds(args, KINDS)
    elif args.all or args.pointers != "raw":
        raise UsageError(
            "--from has no more than what is saved: leave out --all, --pointers"
        )


def run(target: Optional["Target"], args: argparse.Namespace) -> int:
    """Print the areas that the arguments select."""
    if target is None:
        problems, texts = _from_file(args)
    else:
        problems, texts = _from_target(target, args)
    write = write_text if args.format == "table" else sys.stdout.write
    for text in texts:
        write(text)
    if args.format != "json":
        warn_of_problems("ls", problems)
    return problem_status(problems)


def _from_target(target: "Target", args: argparse.Namespace) -> _Output:
    # Not at the top of the file: --from works without drgn.
    from ..kernel.vmalloc.pointers import pointer_policy
    from ..kernel.vmalloc.snapshot import take_snapshot

    policy = None
    if args.format == "proc" and args.pointers in ("auto", "hashed"):
        policy = pointer_policy(target)
    snapshot = take_snapshot(target, all_states=args.all)
    if args.owners:
        # To import these takes as long as to list some thousands of areas.
        from ..kernel.vmalloc.owners import with_owners

        with Progress("ls", "pages of RAM") as progress:
            deep = progress.update if args.owners == "deep" else None
            snapshot = with_owners(target, snapshot, on_read=deep)
    rows = select_rows(snapshot, _selection(args), as_listed=args.format == "proc")
    if not len(rows):
        tell_of_no_match("ls", args, *_FILTERS)
    if args.format == "proc":
        if may_leave_out_lazy(snapshot):
            tell("vmap ls", _UNSURE)
        word_size = snapshot.kernel.word_size
        pointers = pointer_format(args.pointers, word_size, policy)
        return snapshot.problems, proc_lines(snapshot, rows, pointers)
    problems = snapshot.problems
    if args.format == "json":
        texts = json_areas(snapshot, rows, describe)
        return problems, area_document(snapshot.kernel, problems, texts)
    if args.format == "csv":
        return problems, csv_areas(snapshot, rows, describe, bool(args.owners))
    shown = (terminal_width(), bool(args.owners))
    return problems, table_areas(snapshot, rows, describe, *shown)


def _from_file(args: argparse.Namespace) -> _Output:
    # Not at the top of the file: a kernel is what is mostly looked at.
    from ..analyses.saved_text import describe_saved
    from .texts import open_saved

    saved = open_saved(args)
    if saved.pointers != "raw" and (args.range or args.sort == "address"):
        raise UsageError(
            f"{saved.name} has no real addresses: leave out --range, --sort address"
        )
    problems = saved.snapshot.problems
    _check_kinds(args, (*KINDS, *saved.snapshot.labels))
    rows = select_rows(saved.snapshot, _selection(args), as_listed=False)
    if not len(rows):
        tell_of_no_match("ls", args, *_FILTERS)
    if args.format == "proc":
        return problems, (f"{printable(saved.lines[row])}\n" for row in rows.tolist())
    areas = describe_saved(saved, rows)
    if args.format == "json":
        texts = (json.dumps(area_json(area)) for area in areas)
        return problems, area_document(None, problems, texts, pointers=saved.pointers)
    if args.format == "csv":
        return problems, [area_csv(areas)]
    return problems, [area_table(areas, terminal_width())]


def _check_kinds(args: argparse.Namespace, known: Sequence[str]) -> None:
    for kind in args.kind:
        if kind not in known:
            raise UsageError(
                f"--kind {kind!r} is unknown: give some of {', '.join(known)}"
            )


def _selection(args: argparse.Namespace) -> Selection:
    of = (args.kind, args.caller, args.min_size, args.range, args.sort)
    return Selection(*of, args.rows or None)
