# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Show who holds vmalloc space.

Sums up the areas in use by the code that asked for them (--by caller), by the
module of that code, by kind, by the NUMA node of their pages, or by their
owner, which is told by who points at them; the largest come first. BYTES are of
addresses, guard pages included (by node: of pages), and PAGES are pages of
memory that vmalloc() allocated or vmap() was given to keep.

Below the table, the pages of all areas are compared with the kernel's own
counter, the VmallocUsed of /proc/meminfo. Is it "equal", nothing was missed. By
owner, per-CPU memory is compared with Percpu there, and it is told how much
compiled BPF programs may take.

  vmap top                     the twenty largest callers
  vmap top --by module -n 0    all modules
  vmap top --watch 60          what grows, minute by minute, on a running kernel
  vmap top --by owner          which tasks, BPF programs, modules, variables
  vmap top --json              all callers, for programs
  vmap top --openmetrics       the same for Prometheus
  vmap top --from bundle/proc/vmallocinfo

Exit status: 0, or 1 if parts of a vmcore could not be read or lines of a text
were left out, or 2 if it cannot.
"""

import argparse
import sys
import time
from typing import TYPE_CHECKING, Callable, Optional, Tuple, TypeVar

from ..analyses.meminfo import counter_of
from ..analyses.top import GROUPINGS, growth, reconcile, sum_areas
from ..errors import Fault, SymbolsError, UsageError
from ..model.areas import Snapshot
from ..model.sums import OwnerSums, PageCounter
from ..render.openmetrics import openmetrics
from ..render.records import document
from ..render.top import (
    growth_text,
    meminfo_text,
    owner_sums_text,
    top_json,
    top_table,
    verdict_text,
)
from .common import (
    add_from,
    add_json,
    count,
    problem_status,
    tell_of_no_match,
    terminal_width,
    warn_of_problems,
    write_text,
)
from .texts import open_text, read_text

if TYPE_CHECKING:
    from typing import NoReturn

    from ..kernel.target import Target

__all__ = ("add_arguments", "check_arguments", "run")

_ROWS_FOR_PEOPLE = 20
_Known = TypeVar("_Known")
_CLEAR = "\x1b[2J\x1b[H"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``top``."""
    parser.add_argument(
        "--by",
        choices=GROUPINGS,
        default="caller",
        help="what to sum up by (default: caller)",
    )
    parser.add_argument(
        "-n",
        metavar="N",
        type=count,
        dest="rows",
        help="print the N largest, 0 for all (default: "
        f"{_ROWS_FOR_PEOPLE}, for programs all)",
    )
    form = parser.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument(
        "--watch",
        metavar="SECONDS",
        type=_seconds,
        help="of a running kernel: every so many seconds what grew since the start, until "
        "Ctrl-C, and what each look costs",
    )
    form.add_argument(
        "--openmetrics",
        action="store_true",
        help="print gauges for Prometheus, such as its textfile collector takes",
    )
    parser.add_argument(
        "--caller",
        metavar="GLOB",
        help="only areas whose caller matches, such as 'bpf_*'; with --by node, where "
        "its pages are",
    )
    add_from(parser)
    parser.add_argument(
        "--meminfo",
        metavar="FILE",
        help="with --from: a copy of /proc/meminfo of the same moment, whose VmallocUsed "
        "to compare with; in a bundle it is found by itself",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """
    See that arguments go together, before a target is opened for them.

    :raises UsageError: if they do not.
    """
    if args.meminfo is not None and args.saved is None:
        raise UsageError("--meminfo is for texts, a kernel has a counter: give --from")
    if args.saved is not None and args.watch is not None:
        raise UsageError("--watch is for a running kernel: leave out --from")
    if args.saved is not None and args.by == "owner":
        raise UsageError("a text tells no owners: leave out --from, or --by owner")


def run(target: Optional["Target"], args: argparse.Namespace) -> int:
    """Print the sums that the arguments ask for."""
    if target is None:
        return _run(*_of_file(args), args)
    if args.watch is not None:
        _watch(target, args)
    sums = _owner_sums(target) if args.by == "owner" else None
    return _run(*_look(target, args.by), args, sums)


def _watch(target: "Target", args: argparse.Namespace) -> "NoReturn":
    """
    Print again and again what grew since the start.

    :raises UsageError: if nothing can, in a vmcore.
    """
    if not target.live:
        raise UsageError("--watch is for a running kernel, a vmcore does not change")
    first, begun = None, time.monotonic()
    rows = _ROWS_FOR_PEOPLE if args.rows is None else args.rows
    while True:
        cpu = time.process_time()
        now = sum_areas(_look(target, args.by)[0], args.by, args.caller)
        first = first or now
        text = growth_text(growth(first, now), rows or None, terminal_width())
        cost = time.process_time() - cpu
        if sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
        write_text(
            f"after {time.monotonic() - begun:.0f} s, each look takes {cost:.2f} s of "
            f"CPU:\n{text}\n"
        )
        sys.stdout.flush()
        time.sleep(args.watch)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0.1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(
            f"{text!r} are no seconds to wait: give a number of 0.1 to 86400"
        )
    return seconds


def _of_file(args: argparse.Namespace) -> Tuple[Snapshot, Optional[PageCounter]]:
    saved, beside = open_text(args)
    name = args.meminfo or f"the meminfo beside {saved.name}"
    text = (
        read_text(args.meminfo).data.decode("utf-8", "replace")
        if args.meminfo
        else beside
    )
    if text is None:
        return saved.snapshot, None
    return saved.snapshot, counter_of(name, text, saved.snapshot.kernel.page_size)


def _look(target: "Target", by: str) -> Tuple[Snapshot, Optional[PageCounter]]:
    # Not at the top of the file: --from works without drgn.
    from ..kernel.vmalloc.counters import vmalloc_pages
    from ..kernel.vmalloc.snapshot import take_snapshot

    snapshot = take_snapshot(target)
    if by == "owner":
        from ..kernel.vmalloc.owners import with_owners

        snapshot = with_owners(target, snapshot)
    return snapshot, vmalloc_pages(target)


def _owner_sums(target: "Target") -> OwnerSums:
    # Not at the top of the file: --from works without drgn.
    from ..kernel.vmalloc.owners import jit_memory, percpu_memory

    return OwnerSums(_if_known(percpu_memory, target), _if_known(jit_memory, target))


def _if_known(
    read: Callable[["Target"], Optional[_Known]], target: "Target"
) -> Optional[_Known]:
    try:
        return read(target)
    except (Fault, SymbolsError):
        return None


def _run(
    snapshot: Snapshot,
    counter: Optional[PageCounter],
    args: argparse.Namespace,
    sums: Optional[OwnerSums] = None,
) -> int:
    for_people = not (args.json or args.openmetrics)
    rows = _ROWS_FOR_PEOPLE if args.rows is None and for_people else args.rows
    top = sum_areas(snapshot, args.by, args.caller, rows or None)
    if not top.rows:
        tell_of_no_match("top", args, "caller")
    found = reconcile(snapshot, counter, count_addresses=bool(args.saved))
    problems = snapshot.problems
    kernel = None if args.saved else snapshot.kernel
    if args.openmetrics:
        sys.stdout.write(openmetrics(top, found, kernel))
        warn_of_problems("top", problems)
    elif args.json:
        sys.stdout.write(
            document("top", kernel, problems, **top_json(top, found, sums))
        )
    else:
        write_text(top_table(top, terminal_width()))
        if kernel:
            write_text(verdict_text(found, kernel.live))
        elif counter:
            write_text(meminfo_text(found))
        if sums:
            write_text(owner_sums_text(sums))
        warn_of_problems("top", problems)
    return problem_status(problems)
