# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The header of QEMU's kdump-compressed dumps, completed."""

from __future__ import annotations

from pathlib import Path

__all__ = ("set_names",)

# QEMU writes makedumpfile's flattened format: 4096 bytes of a header of its own, then
# records of an offset, a size and data, the first one of struct disk_dump_header: a
# signature of 8 bytes, a version of 4, and a struct new_utsname.
HEADER_OFFSET = 4096 + 16
SIGNATURE = b"KDUMP   "
NAMES_OFFSET = HEADER_OFFSET + 12
NAME_BYTES = 65
"""__NEW_UTS_LEN, and the byte that ends the string."""


def set_names(
    vmcore: Path, sysname: bytes, nodename: bytes, release: bytes, version: bytes
) -> None:
    """
    Fill in the names that ``uname`` prints, as makedumpfile does.

    QEMU gives the machine's name only. libkdumpfile takes that for a header without
    names, then does not know the architecture, and drgn can't open the file.

    :raises ValueError: if the file is no such dump.
    """
    vmcore.chmod(0o600)
    with open(vmcore, "r+b") as file:
        file.seek(HEADER_OFFSET)
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise ValueError(f"{vmcore} is no flattened kdump file")
        file.seek(NAMES_OFFSET)
        for name in (sysname, nodename, release, version):
            file.write(name[: NAME_BYTES - 1].ljust(NAME_BYTES, b"\0"))
