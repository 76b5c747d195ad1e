# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What several verbs share: arguments of one form, and how problems are told.
"""

import argparse
import os
import re
import shutil
import sys
from typing import Callable, List, Optional, Sequence, Tuple

from ..model.areas import Problem
from ..model.tags import ANY_TAGS
from ..render.colour import coloured
from ..render.sizes import size_text
from ..render.tables import folded
from . import EXIT_FOUND, EXIT_OK
from .streams import tell

__all__ = (
    "add_from",
    "add_json",
    "address_range",
    "count",
    "one_of_each",
    "problem_status",
    "size",
    "tell_of_no_match",
    "tell_what_was_written",
    "terminal_width",
    "warn_of_problems",
    "write_text",
)

_PROBLEMS_TOLD = 10
_WITHOUT_JSON = ("report", "slice")


def tell_what_was_written(verb: str, name: str) -> None:
    """Tell a person who sits at a terminal what -o wrote."""
    if name != "-" and sys.stderr.isatty():
        size = size_text(os.path.getsize(name))
        tell(f"vmap {verb}", f"{name} is written, {size}")


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add --json."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document: addresses as strings, sizes in bytes",
    )


def add_from(parser: argparse.ArgumentParser) -> None:
    """Add --from."""
    parser.add_argument(
        "--from",
        dest="saved",
        metavar="FILE",
        help="take a copy of /proc/vmallocinfo instead of a kernel; drgn is not needed "
        "then. Packed, quoted, wrapped and other texts are read too, a "
        "support bundle, and standard input with -",
    )
    parser.add_argument(
        "--snapshot",
        metavar="N",
        type=count,
        help="with --from, of several snapshots in one file: number N (default: the "
        "last)",
    )


def count(text: str) -> int:
    """Parse how many there are: a decimal number, or one with 0x."""
    try:
        found = int(text, 0)
    except ValueError:
        found = -1
    if not 0 <= found < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is no count: give 0 or more")
    return found


def size(text: str) -> int:
    """Parse a size in bytes, decimal or with 0x, or in K, M, G or T."""
    found = re.fullmatch(r"(0x[0-9a-f]+|[0-9]+)([kmgt]?)(?:ib)?", text.lower())
    bytes_ = int(found[1], 0) << " kmgt".index(found[2] or " ") * 10 if found else -1
    if not 0 <= bytes_ < 1 << 63:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: give bytes, such as 4096, 0x1000, 64K or 2M"
        )
    return bytes_


def address_range(text: str) -> Tuple[int, int]:
    """Parse START-END, hexadecimal addresses with or without 0x, or ADDR, one byte."""
    start_text, dash, end_text = text.partition("-")
    try:
        # As the kernel prints them.
        start = ANY_TAGS.off(int(start_text, 16))
        end = ANY_TAGS.off(int(end_text, 16)) if dash else start + 1
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither START-END nor ADDR, in hexadecimal"
        ) from None
    if not 0 <= start < end < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of addresses")
    return start, end


def one_of_each(choices: Sequence[str]) -> Callable[[str], List[str]]:
    """Return a parser of a comma-separated list of some of these words."""

    def parse(text: str) -> List[str]:
        words = text.split(",")
        for word in words:
            if word not in choices:
                known = ", ".join(choices)
                raise argparse.ArgumentTypeError(
                    f"{word!r} is unknown, there are {known}"
                )
        return words

    return parse


def terminal_width() -> Optional[int]:
    """Return how wide the terminal is that standard output is, or None."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write_text(text: str) -> None:
    """
    Write to standard output what people read; on a terminal, folded to its width, and
    in colour unless NO_COLOR or TERM speak against it.
    """
    width = terminal_width()
    if width is not None:
        text = folded(text, width)
        if not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
            text = coloured(text)
    sys.stdout.write(text)


def warn_of_problems(verb: str, problems: Sequence[Problem]) -> None:
    """Tell a person on standard error what could not be read."""
    for problem in problems[:_PROBLEMS_TOLD]:
        text = f"{problem.what}: {problem.where}: {problem.detail}"
        tell(f"vmap {verb}", text)
    more = len(problems) - _PROBLEMS_TOLD
    if more > 0:
        whose = " of vmap ls" if verb in _WITHOUT_JSON else ""
        tell(f"vmap {verb}", f"… and {more} more, see --json{whose}")


def tell_of_no_match(verb: str, args: argparse.Namespace, *filters: str) -> None:
    """
    Tell a person on standard error that what was asked for leaves nothing.

    :param filters: Arguments that leave something out, without dashes.
    """
    given = [f"--{name}" for name in filters if vars(args)[name.replace("-", "_")]]
    if given:
        tell(
            f"vmap {verb}", f"nothing matches {' '.join(given)}: give another, or none"
        )


def problem_status(problems: Sequence[Problem]) -> int:
    """Return the exit status that problems call for; not all are failures."""
    failed = any(problem.is_failure for problem in problems)
    return EXIT_FOUND if failed else EXIT_OK
