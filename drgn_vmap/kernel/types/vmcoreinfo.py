# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
VMCOREINFO
----------

What a kernel notes down for those who read its memory from outside (kernel/vmcore_info.c,
Documentation/admin-guide/kdump/vmcoreinfo.rst), taken apart once. drgn has it of vmcores
and of running kernels.
"""

import re
from typing import Dict, Optional

__all__ = ("SLICE_NOTE", "Vmcoreinfo")

SLICE_NOTE = "VMAP_SLICE_ACTIVITY"
"""The line of VMCOREINFO that only slices have."""

_LINE = re.compile(r"(?:(SYMBOL|NUMBER)\((\w+)\)|(\w+))=(.*)")
_SYMBOL = re.compile(r"[0-9a-f]{1,16}")
_NUMBER = re.compile(r"-?(?:0x[0-9a-f]{1,16}|0|[1-9][0-9]{0,19})")

_PAGE_SIZES = frozenset(1 << shift for shift in range(12, 19))
"""4 KiB to 256 KiB: all that kernels can be built with."""


class Vmcoreinfo:
    """
    The lines of VMCOREINFO. Of several of the same name the last one counts, and one
    whose value cannot be is as good as none.

    :param raw: All of it.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.symbols: Dict[str, int] = {}
        """Addresses, of ``SYMBOL(name)`` lines."""
        self.numbers: Dict[str, int] = {}
        """``NUMBER(name)`` lines."""
        self.notes: Dict[str, str] = {}
        """``NAME`` lines."""
        for line in raw.decode("utf-8", "replace").split("\n"):
            found = _LINE.fullmatch(line)
            if found is None:
                continue
            kind, name, note, value = found.groups()
            if kind == "SYMBOL" and _SYMBOL.fullmatch(value):
                self.symbols[name] = int(value, 16)
            elif kind == "NUMBER" and _NUMBER.fullmatch(value):
                self.numbers[name] = int(value, 0)
            elif note:
                self.notes[note] = value

    @property
    def is_slice(self) -> bool:
        """Whether it is of a slice, which has parts of pages."""
        return SLICE_NOTE in self.notes

    @property
    def crash_time(self) -> Optional[int]:
        """When it crashed, in seconds since 1970; None if it says nothing plausible."""
        text = self.notes.get("CRASHTIME", "")
        return int(text) if re.fullmatch(r"[1-9][0-9]{8,10}", text) else None

    @property
    def page_size(self) -> Optional[int]:
        """Bytes of a page; None if it does not say, or what cannot be."""
        text = self.notes.get("PAGESIZE", "")
        size = int(text) if re.fullmatch(r"[0-9]{4,7}", text) else 0
        return size if size in _PAGE_SIZES else None
