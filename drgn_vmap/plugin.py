# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Registers the drgn command ``%vmap``, where drgn has commands. drgn imports this at every start, so it
imports nothing heavy.
"""

import argparse
from typing import Any

from drgn import Program

from ._drgn import linux_kernel_command
from .commands import overview, run, show_help, target_of, verbs_text

__all__ = ()


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
def _cmd_vmap(
    prog: Program, name: str, args: argparse.Namespace, **kwargs: Any
) -> None:
    if args.verb == "help" and args.args:
        args.verb, args.args = args.args[0], ["--help"]
    if args.help or args.verb == "help":
        show_help(f"%{name}")
    elif args.verb is None:
        overview(f"%{name}", lambda: target_of(prog))
    else:
        run(args.verb, prog, args.args, typed=f"%{name} {args.verb}")
