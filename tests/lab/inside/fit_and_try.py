# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Ask `vmap gaps --fit` and then let the kernel try; drgn runs this in a guest.

Arguments are SIZE:ALIGN pairs in bytes, and then SIZE:text and SIZE:data for what a module
would get where modules have little room; there, SIZE may also be that of the largest gap,
less so many pages: -1. All of it happens in one process, so that between the answer and the
attempt nothing is forked. Other threads of the guest may still take the place: then both
are asked again. Prints JSON: for each pair the answer and the fixture module's line about
its attempt.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.commands import run

LAB = Path("/proc/vmap_lab")
TRIES = 5


TYPES = ("text", "data")
PAGE = 4096
LEFT_AT_BEGIN, LEFT_AT_END = 2 << 20, 4 << 20


def gaps(*options: str) -> "dict[str, Any]":
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        run("gaps", globals()["prog"], ["--json", *options])
    answer: "dict[str, Any]" = json.loads(out.getvalue())
    return answer


def ask(size: str, how: str) -> "dict[str, Any]":
    how_to = ("--space", "module") if how in TYPES else ("--align", how)
    return gaps("--fit", size, *how_to)


def attempt(size: str, how: str) -> "dict[str, str]":
    LAB.write_text(f"try_module {how} {size}" if how in TYPES else f"try {size} {how}")
    [line] = [line for line in LAB.read_text().splitlines() if line.startswith("try ")]
    return dict(field.split("=") for field in line.split()[1:])


def ask_and_try(size: str, how: str) -> "dict[str, object]":
    if int(size) <= 0:
        size = str(gaps("--space", "module")["largest_gap"] + int(size) * PAGE)
    for _ in range(TRIES):
        answer, tried = ask(size, how), attempt(size, how)
        if tried["addr"] in json.dumps(answer["fit"]):
            break
    return {"answer": answer, "tried": tried}


@contextlib.contextmanager
def full_module_space() -> "Iterator[None]":
    """Leave little of the largest gap where modules go: its begin and its end."""
    found = gaps("--space", "module")
    start = int(found["largest_gap_start"], 16) + LEFT_AT_BEGIN
    end = int(found["end"], 16) - LEFT_AT_END
    LAB.write_text(f"take {start} {end - start}")
    yield
    LAB.write_text("take 0")


pairs = [word.split(":") for word in sys.argv[1:]]
of_modules = [pair for pair in pairs if pair[1] in TYPES]
ask("4096", "4096")
found = [ask_and_try(*pair) for pair in pairs if pair not in of_modules]
with full_module_space() if of_modules else contextlib.nullcontext():
    found += [ask_and_try(*pair) for pair in of_modules]
print(json.dumps(found))
