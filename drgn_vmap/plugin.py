# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Registers the drgn command ``%vmap``, which is ``vmap`` in drgn-crash, where drgn has commands;
and with DRGN_VMAP_DIRECT=1 has new programs read vmalloc space right. drgn imports this at
every start, so it imports nothing heavy.
"""

import argparse
import os

from drgn import Program

from ._drgn import linux_kernel_command
from .commands import module_of, overview, run, show_help, target_of, verbs_text

__all__ = ("drgn_prog_set",)


def drgn_prog_set(prog: Program) -> None:
    """Get a program that drgn just opened: this is the name of drgn's hook for it."""
    if os.environ.get("DRGN_VMAP_DIRECT") == "1":
        module_of("direct").switch_on(prog)


@linux_kernel_command(
    name="vmap",
    description="show the kernel's vmalloc state",
    long_description=verbs_text(),
    arguments=(
        (("-h", "--help"), {"action": "store_true", "help": "show this"}),
        (("verb",), {"nargs": "?", "help": "what to show"}),
        (("args",), {"nargs": argparse.REMAINDER, "help": "options of the verb"}),
    ),
)
def _cmd_vmap(prog: Program, typed: str, args: argparse.Namespace) -> None:
    if args.verb == "help" and args.args:
        args.verb, args.args = args.args[0], ["--help"]
    if args.help or args.verb == "help":
        show_help(typed)
    elif args.verb is None:
        overview(typed, lambda: target_of(prog))
    else:
        run(args.verb, prog, args.args, typed=f"{typed} {args.verb}")
