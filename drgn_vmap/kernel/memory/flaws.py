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
from typing import Iterable

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
            flaw = _flaw(file.fileno())
            if flaw:
                return flaw
    return ""


def _flaw(fd: int) -> str:
    start = os.pread(fd, len(FLATTENED), 0)
    if start.startswith(ELF):
        return _CUT if _is_cut_elf(fd) else ""
    if start == FLATTENED:
        return _CUT if _is_cut_flattened(fd) else ""
    if start.startswith(PACKED):
        return _PACKED
    if start.startswith(b"0x"):
        return _LISTING
    return _flaw_of_kdump(fd)


def _is_cut_elf(fd: int) -> bool:
    try:
        loads = read_elf_loads(fd)
    except CutShortError:
        return True
    ends = loads["offset"].astype(np.float64) + loads["filesz"]
    return bool((ends > os.fstat(fd).st_size).any())


def _is_cut_flattened(fd: int) -> bool:
    at = os.fstat(fd).st_size - len(_LAST_RECORD)
    return os.pread(fd, len(_LAST_RECORD), max(at, 0)) != _LAST_RECORD


def _flaw_of_kdump(fd: int) -> str:
    try:
        file = KdumpFile(fd)
    except struct.error:
        return _CUT
    if file.is_part:
        return _PART
    if file.is_incomplete:
        return _NO_SPACE
    return _CUT if file.lost_from() is not None else ""
