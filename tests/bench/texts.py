# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long copies of /proc/vmallocinfo take, beside an awk one-liner for the same sum."""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterator

from tabulate import tabulate

from .measure import measure

__all__ = ("measure_texts", "texts_table")

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
SUM = "{ sum[$3] += $2 } END { for (one in sum) print sum[one], one }"
BARS = {"top": (3.0, 600), "top of dmesg": (4.5, None), "diff": (8.0, None)}
"""Seconds and MiB at most, of a million lines."""
CALLERS = 1_000


def measure_texts(lines: int, runs: int) -> dict[str, Any]:
    """Make two texts of so many lines and run the verbs on them."""
    with tempfile.TemporaryDirectory() as folder:
        old, new, log = (Path(folder, name) for name in ("old", "new", "log"))
        texts = list(_lines(lines))
        old.write_text("".join(texts))
        new.write_text("".join(texts[: -lines // 100]))
        stamped = (f"[{at / 1000:12.6f}] {line}" for at, line in enumerate(texts))
        log.write_text("".join(stamped))
        verb = {
            name: [sys.executable, str(SCRIPTS / f"vmap_{name}.py")]
            for name in ("top", "ls", "gaps", "diff")
        }
        commands = {
            "awk": ["awk", SUM, str(old)],
            "top": [*verb["top"], "--from", str(old)],
            "top of dmesg": [*verb["top"], "--from", str(log)],
            "ls": [*verb["ls"], "--from", str(old)],
            "gaps": [*verb["gaps"], "--from", str(old)],
            "diff": [*verb["diff"], str(old), str(new)],
        }
        figures = measure(commands, runs)
    return {"lines": lines, **{name: asdict(one) for name, one in figures.items()}}


def texts_table(result: dict[str, Any]) -> str:
    """Return all figures; the ratio says how many times as long as awk it takes."""
    rows = []
    for name, one in result.items():
        if name == "lines":
            continue
        ratio = one["cpu_seconds"] / result["awk"]["cpu_seconds"]
        seconds, mib = BARS.get(name, (None, None))
        rows.append(
            [
                name,
                f"{one['seconds']:.2f}",
                f"{one['cpu_seconds']:.2f}",
                f"{ratio:.1f}",
                f"{one['peak_mib']:.0f}",
                "" if seconds is None else f"{seconds:g} s",
                "" if mib is None else f"{mib} MiB",
            ]
        )
    headers = ("COMMAND", "SECONDS", "CPU", "RATIO", "PEAK MIB", "BAR", "")
    table = tabulate(rows, headers, "plain", disable_numparse=True)
    return f"text of {result['lines']} lines\n{table}"


def _lines(count: int) -> Iterator[str]:
    """Yield lines, hardly any two of which say the same."""
    rng = random.Random(count)
    at = 0xFFFFC90000000000
    for _ in range(count):
        pages = rng.randint(1, 1_000)
        on_first = rng.randint(0, pages)
        size = (pages + 1) * 4096
        counts = enumerate((on_first, pages - on_first))
        numa = "".join(f" N{node}={pages}" for node, pages in counts if pages)
        vpages = " vpages" if pages > 512 else ""
        caller = f"caller_{rng.randrange(CALLERS)}+0x{rng.randrange(1, 256):x}/0x130"
        yield (
            f"0x{at:016x}-0x{at + size:016x} {size:7d} {caller} pages={pages} "
            f"vmalloc{vpages}{numa}\n"
        )
        at += size + 4096 * rng.randrange(2)
