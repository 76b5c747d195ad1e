# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
How long it takes just to decompress the pages that ``ls`` reads of a kdump file, which
no reader can do without. Run by drgn, it counts them and measures.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ("Decompression", "decompression")

ROOT = Path(__file__).parents[2]
PAGE = 4096


@dataclass(frozen=True)
class Decompression:
    """What it takes at least."""

    pages: int
    seconds: float
    """Of CPU time."""


def decompression(elf: Path, vmlinux: Path) -> Decompression:
    """Count what ``ls`` reads of an ELF vmcore, compress it as QEMU does, and measure."""
    drgn = [sys.executable, "-m", "drgn", "-q", "-c", str(elf), "-s", str(vmlinux)]
    printed = subprocess.check_output([*drgn, __file__], text=True)
    return Decompression(**json.loads(printed))


def main() -> None:
    """Do it in drgn."""
    sys.path.insert(0, str(ROOT))
    from drgn_vmap.commands import run
    from drgn_vmap.kernel.memory.bulk import Memory

    pages: list[bytes] = []
    read = Memory._bytes

    def noted(memory: Memory, address: int, size: int) -> bytes:
        data = read(memory, address, size)
        pages.extend(data[at : at + PAGE] for at in range(0, size, PAGE))
        return data

    setattr(Memory, "_bytes", noted)
    with contextlib.redirect_stdout(io.StringIO()):
        run("ls", globals()["prog"], [])
    packed = [zlib.compress(page, 1) for page in pages]
    started = time.process_time()
    for page in packed:
        zlib.decompress(page)
    seconds = time.process_time() - started
    print(json.dumps({"pages": len(pages), "seconds": seconds}))


if __name__ == "__main__":
    main()
