# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Count the guest's pages by class: `vmap mem-usage` between two runs of makedumpfile.
drgn runs this in a guest that has memory reserved for a crash kernel.

All of it happens while this process lives, whose own pages are counted, and it stays
until somebody ends it, so that a vmcore has the same pages. Prints JSON: what each of
the three printed; how often the kernel's reader of vmalloc space was called for each;
and the pages that /proc/kcore has twice, once as RAM and once as the kernel's image.
"""

import contextlib
import io
import json
import os
import runpy
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Callable, Tuple

SCRIPT = Path(__file__).resolve().parents[3] / "scripts/vmap_mem_usage.py"
PAGE = 4096
NO_RAM = (1 << 64) - 1
IMAGE = 0xFFFFFFFF80000000
"""Where x86-64 has the kernel's image (__START_KERNEL_map)."""
TRACING = Path("/sys/kernel/tracing")


def makedumpfile() -> str:
    done = subprocess.run(
        ["makedumpfile", "--mem-usage", "/proc/kcore"],
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def ours() -> str:
    out = io.StringIO()
    sys.argv = [str(SCRIPT)]
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        runpy.run_path(str(SCRIPT), {"prog": globals()["prog"]}, "__main__")
    return out.getvalue()


def count_calls(function: str) -> None:
    """Have the kernel count the calls of one of its functions."""
    subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], check=True)
    (TRACING / "kprobe_events").write_text(f"p:counted {function}\n")
    (TRACING / "events/kprobes/counted/enable").write_text("1")


def calls() -> int:
    return int((TRACING / "kprobe_profile").read_text().split()[1])


def with_calls(run: Callable[[], str]) -> Tuple[str, int]:
    """Return what something printed, and the calls that were made meanwhile."""
    before = calls()
    return run(), calls() - before


def pages_of_image() -> int:
    """Return the pages of /proc/kcore's segment for the kernel's image, if it is RAM."""
    with open("/proc/kcore", "rb") as kcore:
        header = struct.unpack("<16sHHIQQQIHHHHHH", kcore.read(64))
        kcore.seek(header[5])
        table = kcore.read(header[9] * header[10])
    pages = 0
    for _, _, _, virtual, physical, _, size, _ in struct.iter_unpack(
        "<IIQQQQQQ", table
    ):
        if virtual >= IMAGE and physical != NO_RAM:
            pages += (physical + size) // PAGE - physical // PAGE
    return pages


# What is imported, compiled and allocated in the first place is there afterwards.
ours()
makedumpfile()
count_calls("vread")
runs = {"before": makedumpfile, "ours": ours, "after": makedumpfile}
answer = {name: with_calls(run) for name, run in runs.items()}
texts = {name: text for name, (text, _) in answer.items()}
counts = {name: count for name, (_, count) in answer.items()}
print(json.dumps({**texts, "calls": counts, "image": pages_of_image()}))
sys.stdout.flush()
os.sync()
signal.pause()
