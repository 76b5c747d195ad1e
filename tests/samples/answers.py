# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Ask every verb about the kernel that drgn opened, and print all answers as JSON:
``drgn -q -c VMCORE tests/samples/answers.py``. Two targets that hold the same state
give the same document.
"""

import contextlib
import io
import json
import random
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from drgn import Program  # noqa: E402

from drgn_vmap.commands import run  # noqa: E402
from drgn_vmap.kernel.target import Target  # noqa: E402

Answer = Tuple[int, str, str]
"""Exit status, standard output and standard error."""

QUESTIONS = (
    *(("ls", "--pointers", how) for how in ("raw", "auto", "hashed", "zero")),
    ("ls", "--all", "--json"),
    ("ls", "--format", "table"),
    ("blocks", "--map"),
    ("blocks", "--json"),
    ("verify",),
    ("verify", "--json"),
    ("fsck", "--json"),
    *(("top", "--json", "--by", by) for by in ("caller", "module", "kind", "node")),
    ("gaps", "--json"),
    ("gaps", "--fit", "1M", "--align", "64K"),
    ("gaps", "--space", "module", "--fit", "1M"),
)
#: Of each area, its first and last byte and so many in between are asked about.
INSIDE = 2
ELSEWHERE = 50
#: Of some struct page.
PAGE_OFFSET = 0x40000
ORIGIN = re.compile('<p class="origin">.*?</p>')


def ask(prog: Program, verb: str, *args: str) -> Answer:
    """Run a verb, catching what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(verb, prog, args)
    return status, out.getvalue(), err.getvalue()


def addresses(listed: str) -> List[str]:
    """Return addresses in areas of each state, in what is free, and anywhere."""
    areas = json.loads(listed)["areas"]
    draw = random.Random(areas[0]["start"])
    found: List[int] = []
    for area in areas:
        start, end = int(area["start"], 16), int(area["end"], 16)
        inside = [draw.randrange(start, end) for _ in range(INSIDE)]
        found += [start, end - 1, *inside]
    found += [draw.randrange(1 << 63, 1 << 64) for _ in range(ELSEWHERE)]
    return [*map(hex, found), "phys:fd000000", "phys:1000000"]


def answers(prog: Program) -> Dict[str, Answer]:
    """Return what every verb says, by the question."""
    found = {" ".join(question): ask(prog, *question) for question in QUESTIONS}
    listed = found["ls --all --json"][1]
    found["addr"] = ask(prog, "addr", *addresses(listed))
    page = Target(prog).frames.first + PAGE_OFFSET
    found["addr page:"] = ask(prog, "addr", f"page:{page:x}")
    with TemporaryDirectory() as directory:
        report = Path(directory, "report.html")
        status, _, error = ask(prog, "report", "-o", str(report))
        # When it was made, and on which host, is no state.
        text = ORIGIN.sub("", report.read_text(encoding="utf-8"))
        found["report"] = (status, text, error)
    return found


if __name__ == "__main__":
    print(json.dumps(answers(globals()["prog"])))
