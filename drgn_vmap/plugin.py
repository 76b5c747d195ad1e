# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Registers the drgn command ``%vmap``. drgn imports this at every start, so it
imports nothing heavy.
"""

import argparse
from typing import Any

from drgn import Program
from drgn.commands import argument
from drgn.commands.linux import linux_kernel_command

from .commands import VERBS, run

__all__ = ()


@linux_kernel_command(
    name="vmap",
    description="show the kernel's vmalloc state",
    long_description="Show the kernel's vmalloc state.\n\nVerbs:\n"
    + "\n".join(f"  {verb:8}{summary}" for verb, summary in VERBS.items())
    + "\n\n%vmap VERB --help explains a verb.",
    arguments=(
        argument("verb", help="what to show"),
        argument("args", nargs=argparse.REMAINDER, help="options of the verb"),
    ),
)
def _cmd_vmap(
    prog: Program, name: str, args: argparse.Namespace, **kwargs: Any
) -> None:
    run(args.verb, prog, args.args)
