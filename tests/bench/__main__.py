# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
How long verbs take beside others that list vmalloc areas: whole processes, on the same
vmcores or texts, in turns. Not tests: clocks are noisy, so look at the ratios.

    python -m tests.bench --kernels 6.1 --areas 0 200000 --json bench.json
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .bars import bars
from .decompression import decompression
from .direct import direct_table, measure_direct
from .kcore import kcore_table, measure_kcore
from .measure import Figures, measure
from .targets import Target, target
from .texts import measure_texts, texts_table

ROOT = Path(__file__).parents[2]
KMEM = "from drgn.commands import run_command; run_command(prog, 'crash kmem -v')"
TYPE = "prog.type('struct vm_struct')"
LOAD_TYPES = "from drgn_vmap import load_types; load_types(prog); "
VERBS = {
    "--help": "ls --help",
    "ls": "ls",
    "ls --json": "ls --json",
    "fsck": "fsck",
    "blocks": "blocks",
    "top": "top",
    "gaps": "gaps",
}
BLOCKS = (5_000, 20_000)
OTHERS_AREAS = 200_000
"""Up to which others are measured too: they take minutes beyond."""


def main() -> None:
    """Make the guests one by one, measure, print a table each, write JSON."""
    args = _arguments()
    sizes = [(areas, 0) for areas in args.areas]
    sizes += [(0, blocks) for blocks in args.blocks]
    results, kcore, direct = [], [], []
    print(_machine())
    # As whatever installs the package does; Python may be told not to keep it.
    compileall.compile_dir(ROOT / "drgn_vmap", quiet=1)
    for kernel in args.kernels:
        for areas, blocks in sizes:
            live = areas == args.live
            with target(kernel, areas, blocks, live, args.keep) as made:
                results.append(_measured(made, args))
                print(f"\n{_title(made)}\n{_table(results[-1])}", flush=True)
        if args.kcore:
            kcore.append(measure_kcore(kernel, args.kcore))
            print(f"\n{kcore_table(kcore[-1])}", flush=True)
        if args.direct:
            direct.append(measure_direct(kernel))
            print(f"\n{direct_table(direct[-1])}", flush=True)
    texts = measure_texts(args.texts, args.runs) if args.texts else None
    if texts:
        print(f"\n{texts_table(texts)}", flush=True)
    found = [bar for kernel in args.kernels for bar in bars(kernel, results)]
    headers = ("KERNEL", "BAR", "ON THE CLOCK", "CPU", "BOUND", "")
    if found:
        print("\n" + tabulate(found, headers, "plain", disable_numparse=True))
    if args.json:
        document = {
            "machine": _machine(),
            "runs": args.runs,
            "results": results,
            "bars": found,
            "kcore": kcore,
            "direct": direct,
            "texts": texts,
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--kernels", nargs="*", default=["6.1", "7.3"])
    sizes = [0, 20_000, 200_000, 1_000_000]
    parser.add_argument("--areas", nargs="*", type=int, default=sizes)
    parser.add_argument("--blocks", nargs="*", type=int, default=BLOCKS)
    parser.add_argument("--live", type=int, default=200_000, metavar="AREAS")
    help_ = "read so much vmalloc space of a running kernel; 0 is none"
    parser.add_argument("--kcore", type=int, default=4, metavar="GIB", help=help_)
    help_ = "time drgn's reads of a running kernel, plain and direct"
    parser.add_argument("--direct", action="store_true", help=help_)
    help_ = "read a copy of /proc/vmallocinfo of so many lines; 0 is none"
    parser.add_argument(
        "--texts", type=int, default=1_000_000, metavar="LINES", help=help_
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write all figures there")
    help_ = "keep vmcores there, and take those that are there"
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help=help_)
    help_ = "drgn's contrib/vmallocinfo.py, to be measured too"
    parser.add_argument("--vmallocinfo", type=Path, help=help_)
    return parser.parse_args()


def _measured(made: Target, args: argparse.Namespace) -> dict[str, Any]:
    figures = {
        name: measure(_commands(made, path, args.vmallocinfo), args.runs)
        for name, path in made.vmcores.items()
    }
    return {
        "kernel": made.kernel,
        "made": made.areas,
        "blocks": made.blocks,
        "live_seconds": made.live,
        "live_reads": made.live_reads,
        "decompression": asdict(decompression(made.vmcores["elf"], made.vmlinux)),
        "vmcores": {
            name: {command: asdict(one) for command, one in by_command.items()}
            for name, by_command in figures.items()
        },
    }


def _commands(
    made: Target, vmcore: Path, vmallocinfo: Path | None
) -> dict[str, list[str]]:
    drgn = [sys.executable, "-m", "drgn", "-q", "-c", str(vmcore)]
    with_types = [*drgn, "-s", str(made.vmlinux)]
    commands = {"drgn alone": [*with_types, "-e", "pass"]}
    for name, words in VERBS.items():
        verb, *options = words.split()
        script = str(ROOT / "scripts" / f"vmap_{verb}.py")
        commands[name] = [*with_types, script, *options]
    commands["vmap ls"] = [sys.executable, "-m", "drgn_vmap", "ls", "-c", str(vmcore)]
    commands["a type"] = [*with_types, "-e", TYPE]
    commands["a type, BTF"] = [*drgn, "--no-default-symbols", "-e", LOAD_TYPES + TYPE]
    commands["%crash kmem -v"] = [*with_types, "-e", KMEM]
    if made.areas > OTHERS_AREAS:
        del commands["%crash kmem -v"]
        return commands
    if vmallocinfo:
        commands["contrib/vmallocinfo.py"] = [*with_types, str(vmallocinfo)]
    if shutil.which("crash"):
        script = f"printf 'kmem -v\\nquit\\n' | crash -s {made.vmlinux} {vmcore}"
        commands["crash kmem -v"] = ["sh", "-c", script]
    return commands


def _table(result: dict[str, Any]) -> str:
    """Return all figures; the ratio says how many times as long as ``ls`` it takes."""
    rows = []
    for vmcore, by_command in result["vmcores"].items():
        ls = by_command["ls"]
        for command, one in by_command.items():
            found = Figures(**one)
            numbers = (found.seconds, found.cpu_seconds)
            rows.append(
                [
                    vmcore,
                    command,
                    *(f"{number:.2f}" for number in numbers),
                    f"{found.cpu_seconds / ls['cpu_seconds']:.1f}",
                    f"{found.peak_mib:.0f}",
                    "" if found.status == 0 else f"exit status {found.status}",
                ]
            )
    pages, seconds = result["decompression"].values()
    took = f"{seconds:.2f}"
    rows.append(["", f"zlib, of {pages} pages that ls reads", took, took, "", "", ""])
    for command, seconds in result["live_seconds"].items():
        ratio = seconds / result["live_seconds"]["ls"]
        rows.append(["live", command, f"{seconds:.2f}", "", f"{ratio:.1f}", "", ""])
    if result["live_reads"]:
        reads, size = result["live_reads"].values()
        command = f"ls: {reads} reads of {size / (1 << 20):.1f} MiB"
        rows.append(["live", command, "", "", "", "", ""])
    headers = ("TARGET", "COMMAND", "SECONDS", "CPU", "RATIO", "PEAK MIB", "")
    return tabulate(rows, headers, "plain", disable_numparse=True)


def _title(made: Target) -> str:
    return f"{made.kernel}: {made.areas} areas and {made.blocks} blocks made"


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    python = platform.python_version()
    return f"{os.cpu_count()} processors, {memory:.0f} GiB, Python {python}"


if __name__ == "__main__":
    main()
