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
from .commands import HELP, overview, run, show_help

__all__ = ()


@linux_kernel_command(
    name="vmap",
    description="show the kernel's vmalloc state",
    long_description=HELP,
    arguments=(
        (("-h", "--help"), {"action": "store_true", "help": "show this"}),
        (("verb",), {"nargs": "?", "help": "what to show"}),
        (("args",), {"nargs": argparse.REMAINDER, "help": "options of the verb"}),
    ),
)
def _cmd_vmap(
    prog: Program, name: str, args: argparse.Namespace, **kwargs: Any
) -> None:
    if args.help:
        show_help()
    elif args.verb is None:
        overview(prog)
    else:
        run(args.verb, prog, args.args)
