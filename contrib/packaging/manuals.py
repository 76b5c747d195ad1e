#!/usr/bin/env python3
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Make the manual pages and the shell completions of vmap of its own arguments:

    manuals.py USR

They go below USR, such as build/root/usr, to where bash, zsh, fish and man look.
argparse-manpage and shtab make them. Tried with those of Debian 12 and with the newest;
shtab completes fish since 1.7.
"""

import re
import sys
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from drgn_vmap import __version__
from drgn_vmap.commands import VERBS
from drgn_vmap.commands.command_line import whole_parser

COMPLETIONS = {
    "bash": "share/bash-completion/completions/vmap",
    "zsh": "share/zsh/vendor-completions/_vmap",
    "fish": "share/fish/vendor_completions.d/vmap.fish",
}
FILES = {"CORE", "FILE", "OLD", "NEW"}
"""What names a file."""


def manual(name, summary, parser, others):
    """Return a manual page; others are those to see as well."""
    page = Manpage(parser)
    page.prog, page.description = name, summary
    page.source, page.manual = f"drgn_vmap {__version__}", "drgn_vmap"
    # Examples and lists are as they are.
    text = re.sub(r"((?:^  .*\n)+)", r".nf\n\1.fi\n", str(page), flags=re.M)
    also = ",\n".join(f".BR {other} (1)" for other in others)
    return f"{text.rstrip()}\n\n.SH SEE ALSO\n{also}\n"


def write(path, text):
    """Write a file that nobody may need to have a folder for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main():
    """Make them."""
    usr = Path(sys.argv[1])
    parser = whole_parser()
    [verbs] = parser._subparsers._group_actions
    for one in (parser, *verbs.choices.values()):
        for action in one._actions:
            if action.metavar in FILES:
                action.complete = shtab.FILE
    for shell, name in COMPLETIONS.items():
        if shell in shtab.SUPPORTED_SHELLS:
            write(usr / name, shtab.complete(parser, shell))
    for verb, summary in VERBS.items():
        text = manual(f"vmap-{verb}", summary, verbs.choices[verb], ["vmap", "drgn"])
        write(usr / f"share/man/man1/vmap-{verb}.1", text)
    # Each verb has a page of its own.
    parser._action_groups.remove(parser._subparsers)
    pages = [f"vmap-{verb}" for verb in VERBS]
    text = manual("vmap", "show the kernel's vmalloc state", parser, [*pages, "drgn"])
    write(usr / "share/man/man1/vmap.1", text)


if __name__ == "__main__":
    main()
