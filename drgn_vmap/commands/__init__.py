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
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable, Mapping, NoReturn, Optional, Sequence

from ..errors import UsageError, VmapError
from .streams import give_up_the_rest, is_output_read, tell, usable_streams

if TYPE_CHECKING:
    from drgn import Program

__all__ = (
    "EXIT_CANNOT",
    "EXIT_FOUND",
    "EXIT_OK",
    "HELP",
    "VERBS",
    "as_script",
    "guarded",
    "main",
    "module_of",
    "overview",
    "run",
    "show_help",
)

EXIT_OK = 0
EXIT_FOUND = 1
EXIT_CANNOT = 2
_EXIT_INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""

VERBS: Mapping[str, str] = {
    "ls": "list vmalloc areas, as /proc/vmallocinfo does or with all there is to know",
    "blocks": "show what is inside each vmap_block: used, freed and free pages",
    "check": "check whether /proc/kcore returns what memory holds, page by page",
    "verify": "tell whether the vm_map_ram series is in this kernel, patch by patch",
    "fsck": "check whether the vmalloc data structures are consistent",
    "top": "show who holds vmalloc space: by caller, module, kind or NUMA node",
    "gaps": "show what is left: free space by size, and whether SIZE would fit",
    "addr": "show what an address is: area, page, block, caller, neighbours",
    "mem-usage": "show what memory is used for, and how much of it vmalloc maps",
    "diff": "show what changed between two listings, slices or vmcores; needs no kernel",
    "slice": "cut out the vmalloc state as a small vmcore that drgn opens by itself",
    "report": "write one HTML file to look at and to attach to a ticket",
}
"""What each verb does, in one line."""

_WITHOUT_TARGET = {"diff"}
"""Verbs that never look at the kernel that drgn opened."""

HELP = (
    "Show the kernel's vmalloc state.\n\nVerbs:\n"
    + "\n".join(f"  {verb:11}{summary}" for verb, summary in VERBS.items())
    + "\n\n%vmap alone shows an overview, %vmap VERB --help explains a verb."
)
"""What %vmap --help prints."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are raised, so that they are worded like others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}: see vmap {self.prog.split()[-1]} --help")


def main(verb: str, prog: Optional["Program"]) -> NoReturn:
    """Run a verb as a script, with the arguments of this process, and exit."""
    as_script(lambda: run(verb, prog, sys.argv[1:]))


def as_script(call: Callable[[], int]) -> NoReturn:
    """
    Exit with what a call returns.

    Only a script may: a session goes on, and needs its standard streams.
    """
    try:
        status = call()
    except KeyboardInterrupt:
        status = _EXIT_INTERRUPTED
    finally:
        give_up_the_rest()
    sys.exit(status)


def run(verb: str, prog: Optional["Program"], argv: Sequence[str]) -> int:
    """
    Run a verb.

    :param argv: Arguments behind the verb.
    :return: Exit status: 0 done, 1 done and found something wrong, 2 cannot.
    """
    return guarded(f"vmap {verb}", lambda: _run(verb, prog, argv))


def show_help() -> None:
    """Show what verbs there are."""
    print(HELP)


def overview(prog: "Program") -> int:
    """Show on one screen what there is; returns an exit status as of a verb."""

    def call() -> int:
        from ..kernel.target import Target

        with Target(prog) as target:
            status: int = module_of("overview").run(target)
        return status

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
                what = f"the Python package {package} is not installed"
                debian = f"apt-get install python3-{package}"
                tell(name, f"{what}: try {debian}, or pip install {package}")
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


def _run(verb: str, prog: Optional["Program"], argv: Sequence[str]) -> int:
    if verb not in VERBS:
        raise UsageError(f"there is no such verb: use one of {', '.join(VERBS)}")
    module = module_of(verb)
    parser = _Parser(
        prog=f"vmap {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    if verb not in _WITHOUT_TARGET:
        _add_lists(parser)
    try:
        args = parser.parse_args(argv)
    except SystemExit:
        # Only --help leaves this way.
        return EXIT_OK
    if prog is None and verb not in _WITHOUT_TARGET and not getattr(args, "saved", ""):
        other = ", or give --from FILE" if hasattr(args, "saved") else ""
        raise UsageError(f"there is no kernel to look at: start it with drgn -c{other}")
    if getattr(args, "snapshot", None) is not None and args.saved is None:
        raise UsageError("--snapshot is of a text with several: give --from FILE too")
    if getattr(args, "lists", False) and getattr(args, "saved", None) is not None:
        raise UsageError("--lists is of a kernel's areas: leave out --from FILE")
    if hasattr(module, "check_arguments"):
        module.check_arguments(args)
    if prog is None or verb in _WITHOUT_TARGET:
        status: int = module.run(None, args)
        return status
    # Not at the top of the file: without a kernel drgn is not needed.
    from ..kernel.target import Target

    with Target(prog, by_lists=args.lists) as target:
        status = module.run(target, args)
    return status


def _add_lists(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lists",
        action="store_true",
        help="find areas by their lists, not by the trees that have the same ones: if a "
        "tree is damaged in a way that nobody notices",
    )
