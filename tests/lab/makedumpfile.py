# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What makedumpfile makes of a guest's vmcore."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Sequence

from .architecture import AMD64
from .chroot import WORK, run_in_tree
from .userland import tree

__all__ = ("as_proc_vmcore", "makedumpfile")

# Of an ELF file of 64 bits.
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
PT_LOAD = 1


def as_proc_vmcore(vmcore: Path, direct_map: int) -> None:
    """
    Give an ELF vmcore of QEMU's headers as /proc/vmcore has them.

    makedumpfile looks for program headers right behind the ELF header, where QEMU has
    sections, and for where physical memory is mapped in virtual addresses, which QEMU
    leaves out.
    """
    vmcore.chmod(0o600)
    with vmcore.open("r+b") as file:
        header = list(HEADER.unpack(file.read(HEADER.size)))
        file.seek(header[5])
        table = file.read(header[9] * header[10])
        segments = [list(fields) for fields in SEGMENT.iter_unpack(table)]
        assert HEADER.size + len(table) <= min(fields[2] for fields in segments)
        for fields in segments:
            if fields[0] == PT_LOAD:
                fields[3] = direct_map + fields[4]
        header[5], header[6], header[11:] = HEADER.size, 0, [0, 0, 0]
        file.seek(0)
        file.write(HEADER.pack(*header))
        file.write(b"".join(SEGMENT.pack(*fields) for fields in segments))


def makedumpfile(directory: Path, options: Sequence[str], *files: str) -> None:
    """
    Run it in a directory, with names there; if what it writes is to be flattened, it prints
    that, and here into the last one.

    :raises ChrootError: if it fails.
    """
    command = ["makedumpfile", "--message-level", "1", *options, *files]
    if "-F" in options:
        command[-1:] = [">", files[-1]]
    line = f"cd {WORK} && {' '.join(command)}"
    run_in_tree(tree(AMD64), directory, "sh", "-ec", line)
