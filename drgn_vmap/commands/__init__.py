# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Commands
--------

One file a verb, each with ``add_arguments()`` and ``run()``. What
stands here runs them: it finds the verb, and turns what a verb returns or raises
into output, one line on standard error and an exit status.
"""

import argparse
import gc
import re
import sys
import warnings
from importlib import import_module
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Mapping,
    NamedTuple,
    NoReturn,
    Optional,
    Sequence,
)

from ..errors import SymbolsError, TargetError, UsageError, VmapError
from .missing import missing_text
from .progress import Progress
from .streams import give_up_the_rest, is_output_read, tell, usable_streams

if TYPE_CHECKING:
    from drgn import Program

    from ..kernel.target import Target

__all__ = (
    "EXIT_CANNOT",
    "EXIT_FOUND",
    "EXIT_OK",
    "Parser",
    "VERBS",
    "WITHOUT_TARGET",
    "Way",
    "as_script",
    "guarded",
    "main",
    "module_of",
    "no_verb",
    "overview",
    "run",
    "run_verb",
    "show_help",
    "target_of",
    "verb_parser",
    "verbs_text",
)

EXIT_OK = 0
EXIT_FOUND = 1
EXIT_CANNOT = 2
_EXIT_INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""
_NO_VALUE = re.compile(r"--[^=]*=--|-[^-]--")
"""Words that give an option nothing but dashes."""
_OBJECTS_UNTIL_COLLECTED = 100_000

VERBS: Mapping[str, str] = {
    "ls": "list vmalloc areas, as /proc/vmallocinfo does or with all details",
    "blocks": "show what is inside each vmap_block: used, freed and free pages",
    "check": "check whether /proc/kcore returns what memory holds, page by page",
    "verify": "tell whether the vm_map_ram series is in a kernel, patch by patch",
    "fsck": "check whether the vmalloc data structures are consistent",
    "top": "show who holds vmalloc space: by caller, module, kind or NUMA node",
    "gaps": "show what is left: free space by size, and whether SIZE would fit",
    "addr": "show what an address is: area, page, block, caller, neighbours",
    "read": "show what an area holds, read past the reader of /proc/kcore",
    "direct": "let drgn itself, and any script, read vmalloc space right",
    "mem-usage": "show what memory is used for, and how much of it vmalloc maps",
    "diff": "show what changed between two listings, slices or vmcores",
    "slice": "cut out the vmalloc state as a small vmcore, which drgn opens",
    "report": "write one HTML file to look at and to attach to a ticket",
}
"""What each verb does, in one line."""

WITHOUT_TARGET = {"diff"}
"""Verbs that never look at the kernel that was opened."""

WITHOUT_TYPES = {"ls", "top"}
"""Verbs that show what is left where a kernel's names and types are lost."""


class Way(NamedTuple):
    """How a verb was started: as a script, in drgn, or as a command."""

    typed: str
    """What a person typed for it, such as ``vmap ls``."""

    open: Optional[Callable[[argparse.Namespace], "Target"]]
    """Opens the kernel that the arguments name; None if there is none."""

    add_target: Callable[[argparse.ArgumentParser], None] = lambda _: None
    """Adds arguments that name a kernel."""

    names_target: Callable[[argparse.Namespace], bool] = lambda _: False
    """Whether such arguments were given."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are raised, so that they are worded like others."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as a UsageError."""
        raise UsageError(f"{message}: see {self.prog} --help")

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse arguments; of --name=--, argparse may lose the value."""
        for word in filter(_NO_VALUE.fullmatch, args[0]):
            self.error(f"{word}: -- is no value")
        return super().parse_known_args(*args, **kwargs)

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse says nothing of a help that cannot be written.
        (file or sys.stderr).write(message)


def main(verb: str, prog: Optional["Program"]) -> NoReturn:
    """Run a verb as a script, with the arguments of this process, and exit."""
    as_script(lambda: run(verb, prog, sys.argv[1:], typed=sys.argv[0]))


def as_script(call: Callable[[], int]) -> NoReturn:
    """
    Exit with what a call returns.

    Only a script may: a session goes on, and needs its standard streams.
    """
    # Next to nothing here refers to itself: to look for that as often as Python does takes
    # a twentieth of the time of a verb.
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTED)
    try:
        status = call()
    except KeyboardInterrupt:
        status = _EXIT_INTERRUPTED
    finally:
        give_up_the_rest()
    # Nor does Python have to look at all of it once more when it ends.
    gc.freeze()
    sys.exit(status)


def run(
    verb: str, prog: Optional["Program"], argv: Sequence[str], typed: str = ""
) -> int:
    """
    Run a verb on a program that drgn opened.

    :param argv: Arguments behind the verb.
    :param typed: What was typed for it.
    :return: Exit status: 0 done, 1 done and found something wrong, 2 cannot.
    """
    way = Way(typed or f"vmap {verb}", prog and (lambda _: target_of(prog)))
    return run_verb(verb, way, argv)


def target_of(prog: "Program") -> "Target":
    """Return what a program that drgn opened has of a kernel."""
    # Not at the top of the file: without a kernel drgn is not needed.
    from ..kernel.target import Target

    return Target(prog)


def run_verb(verb: str, way: Way, argv: Sequence[str]) -> int:
    """Run a verb, however it was started; returns its exit status."""
    return guarded(f"vmap {verb}", lambda: _run(verb, way, argv))


def verbs_text() -> str:
    """Return what verbs there are, a line each."""
    lines = (f"  {verb:11}{summary}\n" for verb, summary in VERBS.items())
    return f"Show the kernel's vmalloc state.\n\nVerbs:\n{''.join(lines)}"


def no_verb(word: str, typed: str = "") -> str:
    """
    Return that a word is no verb, and what to try.

    :param typed: What is typed before a verb, if that is to be said.
    """
    # Not at the top of the file: next to nobody needs it.
    import difflib

    near = difflib.get_close_matches(word, VERBS, 1)
    meant = f"{typed} {near[0]}".lstrip() if near else f"one of {', '.join(VERBS)}"
    return f"there is no verb {word!r}: try {meant}"


def show_help(typed: str) -> None:
    """
    Show what verbs there are.

    :param typed: What is typed before a verb.
    """
    print(f"{verbs_text()}\n{typed} alone shows an overview, ", end="")
    print(f"{typed} help VERB explains a verb.")


def overview(typed: str, open_target: Callable[[], "Target"]) -> int:
    """
    Show on one screen what there is; returns an exit status as of a verb.

    :param typed: What was typed for it, and is typed before a verb.
    """

    def call() -> int:
        with open_target() as target:
            run_overview = module_of("overview").run
            return _with_flaw("vmap", target, lambda: run_overview(target, typed))

    return guarded("vmap", call)


def guarded(name: str, call: Callable[[], int]) -> int:
    """
    Turn what is raised into a line and an exit status.

    :param name: Who speaks in that line.
    """
    # What damaged numbers make of a sum is for checks to see, not for numpy to warn of.
    with usable_streams(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            status = call()
            sys.stdout.flush()
            return status
        except VmapError as e:
            tell(name, str(e))
        except ImportError as e:
            package, _, inside = (e.name or "").partition(".")
            if package in ("", __name__.partition(".")[0]):
                raise
            if inside or not isinstance(e, ModuleNotFoundError):
                what = f"the installed {package} does not fit ({e.msg})"
                tell(name, f"{what}: try another version of it")
            else:
                tell(name, missing_text(package))
        except MemoryError:
            tell(name, "memory is not enough: use a machine with more, or less input")
        except OSError as e:
            if isinstance(e, BrokenPipeError) and not is_output_read():
                # The reader has seen enough.
                return EXIT_OK
            advice = "check the target, and where the output goes"
            tell(name, f"input or output failed ({e}): {advice}")
        except Exception as e:
            from .._drgn import as_raised

            error = as_raised(e)
            if error is None:
                raise
            tell(name, str(error))
        return EXIT_CANNOT


def module_of(verb: str) -> Any:
    """Import the module of a verb, when it is first used."""
    name = verb.replace("-", "_")
    return import_module(f".{name}", __name__)


def verb_parser(verb: str, way: Way) -> argparse.ArgumentParser:
    """
    Return the parser of a verb's arguments.

    :raises UsageError: if there is no such verb.
    """
    if verb not in VERBS:
        raise UsageError(no_verb(verb))
    module = module_of(verb)
    parser = Parser(
        prog=way.typed,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    if verb not in WITHOUT_TARGET:
        way.add_target(parser)
        _add_lists(parser)
    return parser


def _run(verb: str, way: Way, argv: Sequence[str]) -> int:
    parser = verb_parser(verb, way)
    try:
        args = parser.parse_args(argv)
    except SystemExit:
        # Only --help leaves this way.
        return EXIT_OK
    module = module_of(verb)
    from_file = getattr(args, "saved", None) is not None
    if not way.open and verb not in WITHOUT_TARGET and not from_file:
        other = ", or give --from FILE" if hasattr(args, "saved") else ""
        raise UsageError(f"there is no kernel to look at: start it with drgn -c{other}")
    if from_file and way.names_target(args):
        raise UsageError("--from FILE needs no kernel: name one, or the file")
    if getattr(args, "snapshot", None) is not None and not from_file:
        raise UsageError("--snapshot is of a text with several: give --from FILE too")
    if getattr(args, "lists", False) and getattr(args, "saved", None) is not None:
        raise UsageError("--lists is of a kernel's areas: leave out --from FILE")
    if hasattr(module, "check_arguments"):
        module.check_arguments(args)
    if way.open is None or verb in WITHOUT_TARGET or from_file:
        status: int = module.run(None, args)
        return status
    with way.open(args) as target, Progress(verb, "bytes of memory") as progress:
        target.by_lists = args.lists
        target.on_search = progress.update

        def call() -> int:
            if verb not in WITHOUT_TYPES:
                target.need_layout()
            found: int = module.run(target, args)
            return found

        status = _with_flaw(f"vmap {verb}", target, call)
    return status


def _with_flaw(name: str, target: "Target", call: Callable[[], int]) -> int:
    """Call something; if all is not well, say what is wrong with the vmcore's file."""
    try:
        status = call()
    except (SymbolsError, TargetError) as e:
        if not target.flaw:
            raise
        raise TargetError(target.flaw) from e
    if status and target.flaw:
        tell(name, target.flaw)
    return status


def _add_lists(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lists",
        action="store_true",
        help="find areas by their lists, not by the trees that have the same ones: if a "
        "tree is damaged in a way that nobody notices",
    )
