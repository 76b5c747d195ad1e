# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Ask `vmap gaps --fit` and then let the kernel try; drgn runs this in a guest.

Arguments are SIZE:ALIGN pairs in bytes. All of it happens in one process, so that
between the answer and the attempt nothing is forked. Other threads of the guest may
still take the place: then both are asked again. Prints JSON: for each pair the
answer and the fixture module's line about its attempt.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.commands import run

LAB = Path("/proc/vmap_lab")
TRIES = 5


def ask(size: str, align: str) -> "dict[str, object]":
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        run("gaps", globals()["prog"], ["--json", "--fit", size, "--align", align])
    answer: "dict[str, object]" = json.loads(out.getvalue())
    return answer


def attempt(size: str, align: str) -> "dict[str, str]":
    LAB.write_text(f"try {size} {align}\n")
    [line] = [line for line in LAB.read_text().splitlines() if line.startswith("try ")]
    return dict(field.split("=") for field in line.split()[1:])


def ask_and_try(size: str, align: str) -> "dict[str, object]":
    for _ in range(TRIES):
        answer, tried = ask(size, align), attempt(size, align)
        if tried["addr"] in json.dumps(answer["fit"]):
            break
    return {"answer": answer, "tried": tried}


ask("4096", "4096")
print(json.dumps([ask_and_try(*pair.split(":")) for pair in sys.argv[1:]]))
