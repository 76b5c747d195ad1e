# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Cut the vmalloc state out of a kernel's memory: a small vmcore to keep, to mail,
or to look at elsewhere.

It holds the bytes that vmap's verbs read, the kernel's types and names among
them, so each verb but mem-usage, which looks at all of RAM, says of it what it
would say of the target, and drgn opens it by itself:

  vmap slice -o slice
  vmap ls -c slice

What lies beside these bytes is not in it, nor is what areas map, so no buffer,
stack or module code is, unless --data adds these pages. Reading what is not in
it is a fault, never zeros. Kernel memory it does hold, and so names of modules
and the key that hashes addresses.

Exit status: 0, or 1 if parts of a vmcore could not be read, or 2 if it cannot.
"""

import argparse
from typing import TYPE_CHECKING

from ..kernel.vmalloc.slicing import Slice
from ..render.core import core_headers
from .common import problem_status, tell_what_was_written, warn_of_problems
from .output import add_output, whole_file
from .progress import Progress
from .streams import tell

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``slice``."""
    add_output(parser, "vmcore")
    parser.add_argument(
        "--data",
        action="store_true",
        help="add the pages that areas map: kernel stacks, modules and any buffer, "
        "so possibly secrets",
    )


def run(target: "Target", args: argparse.Namespace) -> int:
    """Write the vmcore."""
    with Progress("slice", "pages") as progress, whole_file(
        args.output, target.files, is_memory=True
    ) as file:
        found = Slice(target, args.data, progress.update)
        file.write(core_headers(found.head, found.begins, found.sizes))
        for contents in found.contents():
            file.write(contents)
    tell_what_was_written("slice", args.output)
    if found.vmlinux:
        tell(
            "vmap slice",
            "this kernel carries no types or no names of its own: open the slice with "
            f"drgn -s {found.vmlinux}",
        )
    warn_of_problems("slice", found.problems)
    return problem_status(found.problems)
