# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Compare verbs with debug info and without; drgn runs this in a guest.

Both look at the kernel from one process and without a fork, again and again until
nothing has changed in between. Prints JSON: what differs, by verb.
"""

import contextlib
import difflib
import io
import json
import sys
from pathlib import Path
from typing import Dict, List

from drgn import Program

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.commands import run

VERBS = (
    ["ls", "--json"],
    ["blocks", "--json"],
    ["fsck", "--json"],
    ["top", "--json"],
    ["gaps", "--json"],
    ["verify", "--json"],
    ["check", "--json", "--limit-pages", "200"],
)
TRIES = 8


def lines_of(prog: Program, words: List[str]) -> List[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = run(words[0], prog, words[1:])
    text = out.getvalue().replace('"symbols": "btf"', '"symbols": "dwarf"')
    return [f"status {status}", *text.splitlines()]


def difference(words: List[str]) -> List[str]:
    found: List[str] = []
    for _ in range(TRIES):
        without, with_it = lines_of(bare, words), lines_of(globals()["prog"], words)
        found = list(difflib.unified_diff(with_it, without, lineterm="", n=0))
        if not found:
            break
    return found


bare = Program()
bare.set_core_dump("/proc/kcore")
result: Dict[str, List[str]] = {}
for verb in VERBS:
    differs = difference(verb)
    if differs:
        result[" ".join(verb)] = differs
print(json.dumps(result))
