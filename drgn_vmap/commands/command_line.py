# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The command ``vmap``, which is ``python3 -m drgn_vmap`` too: opens the kernel itself.
"""

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Optional, Sequence

from .. import __version__
from ..errors import UsageError
from . import (
    EXIT_OK,
    VERBS,
    Parser,
    Way,
    as_script,
    guarded,
    no_verb,
    overview,
    run_verb,
    verb_parser,
    verbs_text,
)
from .streams import tell

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("main", "run_command", "whole_parser")

_HELP = "help"
_EPILOG = """\
vmap alone shows an overview, of the running kernel if no other is named. vmap
help VERB explains a verb. The arguments that name a kernel are those of each
verb as well:

  vmap ls -c VMCORE --kind vmap_block

Exit status: 0 done, nothing wrong; 1 done, and found what the verb looks for,
parts of a vmcore could not be read, or lines of a text were left out; 2 cannot:
a line on standard error says what to do."""


class _Once(argparse.Action):
    """An argument that names one thing, of which the last would silently win."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: Optional[str] = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice")
        setattr(namespace, self.dest, values)


def main() -> NoReturn:
    """Run the command, with the arguments of this process, and exit."""
    as_script(lambda: run_command(sys.argv[1:]))


def run_command(argv: Sequence[str]) -> int:
    """Run what the arguments of the command ask for; returns its exit status."""
    verb, *rest = argv or [""]
    if verb == _HELP:
        return guarded("vmap", lambda: _explain(rest))
    if verb in VERBS:
        return run_verb(verb, _way(verb), rest)
    return guarded("vmap", lambda: _without_verb([verb, *rest] if verb else []))


def whole_parser() -> argparse.ArgumentParser:
    """Return a parser of all that can be typed, to make completions and manuals of."""
    parser = _parser()
    verbs = parser.add_subparsers(metavar="VERB", title="verbs", prog="vmap")
    verbs.add_parser(_HELP, help="explain a verb").add_argument(
        "verb", nargs="?", choices=list(VERBS), help="the verb"
    )
    for verb, summary in VERBS.items():
        parent = verb_parser(verb, _way(verb))
        verbs.add_parser(
            verb,
            help=summary,
            description=parent.description,
            formatter_class=parent.formatter_class,
            parents=[parent],
            add_help=False,
        )
    return parser


def _way(verb: str) -> Way:
    typed = f"vmap {verb}"
    return Way(typed, partial(_open_named, typed), _add_target, _names_target)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="vmap",
        usage="vmap [VERB] [-c CORE | -k | --qemu ADDR] [-s FILE] [options]",
        description=verbs_text(),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"vmap {__version__}")
    _add_target(parser)
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which kernel")
    one = group.add_mutually_exclusive_group()
    one.add_argument(
        "-c", "--core", metavar="CORE", action=_Once, help="a vmcore, or a slice"
    )
    one.add_argument(
        "-k", "--kernel", action="store_true", help="the running one (default); as root"
    )
    one.add_argument(
        "--qemu",
        metavar="ADDR",
        action=_Once,
        help="that of a QEMU guest, by its QMP socket: a path, or HOST:PORT",
    )
    group.add_argument(
        "-s",
        "--symbols",
        metavar="FILE",
        action="append",
        default=[],
        help="take debug info from this vmlinux, or module; may be given again. Without "
        "it, the types and names that the kernel carries are enough, and quicker",
    )
    group.add_argument(
        "--debug-info",
        action="store_true",
        help="take debug info from wherever drgn finds it",
    )


def _names_target(args: argparse.Namespace) -> bool:
    return bool(
        args.core is not None
        or args.kernel
        or args.qemu is not None
        or args.symbols
        or args.debug_info
    )


def _open_named(typed: str, args: argparse.Namespace) -> "Target":
    # Not at the top of the file: without a kernel drgn is not needed.
    from ..kernel.opening import open_target

    target = open_target(args.core, args.qemu, args.symbols, args.debug_info)
    if args.debug_info and not target.has_dwarf:
        tell(typed, "drgn finds no debug info: what the kernel carries is used")
    return target


def _explain(words: Sequence[str]) -> int:
    """Show help of all, or of one verb."""
    if len(words) > 1:
        raise UsageError(f"help is of one verb: what is {words[1]!r}?")
    [verb] = words or [""]
    if verb in VERBS:
        return run_verb(verb, _way(verb), ["--help"])
    return _without_verb([verb, "--help"] if verb else ["--help"])


def _without_verb(argv: Sequence[str]) -> int:
    if argv and not argv[0].startswith("-"):
        raise UsageError(_misplaced(argv[0]))
    try:
        args, others = _parser().parse_known_args(argv)
    except SystemExit:
        # Only --help and --version leave this way.
        return EXIT_OK
    if others:
        raise UsageError(_misplaced(others[0]))
    return overview("vmap", lambda: _open_named("vmap", args))


def _misplaced(word: str) -> str:
    if word in VERBS:
        return f"the verb comes first: vmap {word} -c CORE, say"
    if word.startswith("-"):
        return f"unrecognized arguments: {word}: see vmap --help"
    return no_verb(word, "vmap")
