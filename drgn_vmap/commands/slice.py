# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Cut the vmalloc state out of a kernel's memory: a small vmcore to keep, to mail, or
to look at elsewhere.

It holds the pages that vmap's verbs read, the kernel's types and names among them,
so each verb says of it what it would say of the target, and drgn opens it by
itself:

  vmap slice -o slice
  drgn -c slice scripts/vmap_ls.py

What areas map is not in it, so no buffer, stack or module code is, unless --data
adds these pages. Reading what is not in it is a fault, never zeros. Kernel memory
it does hold, and so names of modules and the key that hashes addresses.

Exit status: 0, or 1 if parts of a vmcore could not be read, or 2 if it cannot.
"""

import argparse
import os
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Iterator, List

from ..errors import UsageError
from ..kernel.vmalloc.slicing import Slice
from ..model.areas import Problem
from ..render.core import core_end, core_start
from ..render.escape import printable
from .common import add_output, problem_status, warn_of_problems
from .progress import Progress

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
    _refuse_target(target, args.output)
    with Progress("slice", "pages") as progress, _replacing(args.output) as file:
        found = Slice(target, args.data, progress.update)
        file.write(core_start(found.head))
        frames: List[int] = []
        for frame, page in zip(found.frames, found.pages()):
            if page:
                file.write(page)
                frames.append(frame)
                progress.update(len(frames), len(found.frames))
        end, header = core_end(found.head, frames)
        file.write(end)
        file.seek(0)
        file.write(header)
    problems = found.problems
    missing = len(found.frames) - len(frames)
    if missing:
        detail = f"{missing} of their pages are not in the target"
        problems += (Problem("unreadable", "data of areas", detail),)
    if found.vmlinux:
        print(
            "vmap slice: this kernel carries no types or no names of its own: open "
            f"{printable(args.output)} with drgn -s {printable(found.vmlinux)}",
            file=sys.stderr,
        )
    warn_of_problems("slice", problems)
    return problem_status(problems)


def _refuse_target(target: "Target", output: str) -> None:
    """Let nobody replace a vmcore by its slice, or a device by a file."""
    core = target.prog.core_dump_path
    if core is not None and os.path.exists(output) and os.path.samefile(core, output):
        raise UsageError(f"{output} is the vmcore itself: choose another file")
    if os.path.exists(output) and not os.path.isfile(output):
        raise UsageError(f"{output} is no file: choose one")


@contextmanager
def _replacing(name: str) -> Iterator[IO[bytes]]:
    """
    Give a file that takes a name only once all of it is written.

    Only its owner may read it, as of other vmcores.
    """
    try:
        file = tempfile.NamedTemporaryFile(
            dir=os.path.dirname(name) or ".",
            prefix=f".{os.path.basename(name)}.",
            delete=False,
        )
    except OSError as e:
        raise _cannot_write(name, e) from e
    try:
        with file:
            yield file
        os.replace(file.name, name)
    except OSError as e:
        os.unlink(file.name)
        raise _cannot_write(name, e) from e
    except BaseException:
        os.unlink(file.name)
        raise


def _cannot_write(name: str, error: OSError) -> UsageError:
    return UsageError(f"{name} cannot be written ({error}): choose another place")
