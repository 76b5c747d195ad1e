# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Let drgn itself read vmalloc space of the running kernel right.

drgn reads it through /proc/kcore, whose reader returns zeros (before 6.3) or
another page's bytes (since 6.3) of what vm_map_ram() mapped; see vmap check.
From now on, prog.read(), Objects, helpers and scripts read it by the kernel's
page table, from RAM: vmalloc space, modules and per-CPU memory. What is not
mapped is a FaultError, not zeros, and so is what is no RAM: no device is read.
Of vmcores it is so already.

  %vmap direct              in a session; %vmap direct off ends it
  drgn -k scripts/vmap_direct.py SCRIPT [ARG...]
                            runs another script so
  DRGN_VMAP_DIRECT=1 drgn -k
                            from the start, if drgn_vmap is installed
  use_direct_reads(prog)    in Python, from drgn_vmap

A read of a page takes about twice as long as through /proc/kcore, another one
up to four times.

Exit status: 0, or 2 if it cannot. A script ends as it does by itself.
"""

import argparse
import os
import runpy
import sys
from typing import TYPE_CHECKING, List, Optional

from ..errors import UsageError
from ..kernel.memory.direct import direct_reads, reads_kcore
from . import EXIT_OK, as_script, guarded
from . import run as run_verb
from .common import write_text

if TYPE_CHECKING:
    from drgn import Program

    from ..kernel.target import Target

__all__ = ("add_arguments", "run", "run_script", "switch_on")

_ALREADY = (
    "drgn reads vmalloc space by page table already: only of the kernel that runs it, it "
    "would read /proc/kcore\n"
)
_TEXTS = {
    True: "drgn reads vmalloc space by page table from now on, and RAM alone\n",
    False: "drgn reads vmalloc space through /proc/kcore\n",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``direct``."""
    parser.add_argument(
        "switch",
        nargs="?",
        choices=("on", "off"),
        default="on",
        help="off: read through /proc/kcore again (default: on)",
    )


def run(target: "Target", args: argparse.Namespace) -> int:
    """Switch, and say what is so now."""
    on = args.switch == "on"
    write_text(_TEXTS[on] if direct_reads(target.prog, on) else _ALREADY)
    return EXIT_OK


def switch_on(prog: "Program") -> None:
    """Switch on for a program that was just opened, whatever it is."""
    if reads_kcore(prog):
        guarded("vmap direct", lambda: _switched_on(prog))


def run_script(prog: Optional["Program"], argv: List[str]) -> None:
    """
    Switch on, and run another script as drgn would.

    :param argv: The script and its arguments.
    """
    if argv[:1] in (["-h"], ["--help"]):
        as_script(lambda: run_verb("direct", prog, argv))
    status = guarded("vmap direct", lambda: _ready_for(prog, argv))
    if status != EXIT_OK:
        as_script(lambda: status)
    sys.argv[:] = argv
    sys.path.insert(0, os.path.dirname(os.path.abspath(argv[0])))
    runpy.run_path(argv[0], {"prog": prog}, "__main__")


def _ready_for(prog: Optional["Program"], argv: List[str]) -> int:
    if not argv:
        raise UsageError("there is no script to run: give SCRIPT [ARG...]")
    if not os.path.isfile(argv[0]):
        raise UsageError(f"{argv[0]} is no file: give the script to run")
    if prog is None:
        raise UsageError("there is no kernel to look at: start it with drgn -k")
    return _switched_on(prog)


def _switched_on(prog: "Program") -> int:
    direct_reads(prog)
    return EXIT_OK
