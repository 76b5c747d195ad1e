# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Flaws of files
--------------

Whether the file of a vmcore says itself that it is not all of it, or not it: that it is one
part of several, that it should go on where it ends, that it is packed, or a text.
"""

import os
import struct
from contextlib import suppress
from typing import Iterable, Iterator

from ..._numpy import np
from ...model.file_starts import ELF, FLATTENED, PACKED
from .elf_loads import CutShortError, read_elf_loads
from .kdump_files import SENSELESS, KdumpFile

__all__ = ("flaw_of",)

_PART = (
    "this file is one part of a vmcore that was split: put all parts together with "
    "makedumpfile --reassemble"
)
_NO_SPACE = (
    "makedumpfile had no space for all of this vmcore: if it happens again, give it more, "
    "or have it leave out more"
)
_CUT = "this vmcore is cut short: copy it again, if there is more of it elsewhere"
_PACKED = "this file is packed: unpack it first"
_LISTING = "this file is a copy of /proc/vmallocinfo: give it with --from"

_LAST_RECORD = b"\xff" * 16
"""What a flattened file ends with."""


def flaw_of(files: Iterable[str]) -> str:
    """
    Return what is wrong with the first file that says so, and what to do; or nothing.

    :param files: Those that a vmcore may be read from.
    """
    for name in filter(os.path.isfile, files):
        with suppress(*SENSELESS), open(name, "rb") as file:
            for flaw in _flaws(file.fileno()):
                return flaw
    return ""


def _flaws(fd: int) -> Iterator[str]:
    size = os.fstat(fd).st_size
    start = os.pread(fd, len(FLATTENED), 0)
    if start.startswith(ELF):
        yield from _flaws_of_elf(fd, size)
    elif start == FLATTENED:
        end = os.pread(fd, len(_LAST_RECORD), max(size - len(_LAST_RECORD), 0))
        if end != _LAST_RECORD:
            yield _CUT
    elif start.startswith(PACKED):
        yield _PACKED
    elif start.startswith(b"0x"):
        yield _LISTING
    else:
        yield from _flaws_of_kdump(fd)


def _flaws_of_elf(fd: int, size: int) -> Iterator[str]:
    try:
        loads = read_elf_loads(fd)
    except CutShortError:
        yield _CUT
        return
    if (loads["offset"].astype(np.float64) + loads["filesz"] > size).any():
        yield _CUT


def _flaws_of_kdump(fd: int) -> Iterator[str]:
    try:
        file = KdumpFile(fd)
    except struct.error:
        yield _CUT
        return
    if file.is_part:
        yield _PART
    elif file.is_incomplete:
        yield _NO_SPACE
    elif file.lost_from() is not None:
        yield _CUT
