# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Listings of other tools
-----------------------

Debuggers list areas of a vmcore in forms of their own: the kernel's scripts/gdb
(lx-vmallocinfo), drgn's contrib/vmallocinfo.py, and crash (kmem -v). What stands here
writes them as /proc/vmallocinfo has it; a caller that is no %pS stands in ``<>``.
"""

import re
from typing import Match, Tuple

__all__ = ("as_vmallocinfo",)

_SAMPLE = 1 << 16
"""Bytes from which a listing is told."""

# Both print sizes ten characters wide, callers without a symbol's size, and physical
# addresses unpadded.
_DEBUGGER = re.compile(
    rb"^0x([0-9a-f]{8,16})-0x([0-9a-f]{8,16}) ( *[0-9]+)"
    rb"(?: (?!vm_map_ram|pages=|phys=|ioremap|sparse|vmalloc|vmap|user|dma-|vpages)"
    rb"<?([A-Za-z_.$0-9][^\s<>]*)>?)?"
    rb"((?: pages=[0-9]+)?)(?: phys=0x([0-9a-f]+))?((?: [a-z_-]+)*)$",
    re.MULTILINE,
)
_SIZE_WIDTH = 10

_CRASH = re.compile(
    rb"^[> ]*(?:[0-9a-f]{8,16} +){1,2}([0-9a-f]{8,16}) - ([0-9a-f]{8,16}) +([0-9]+) *\r?$",
    re.MULTILINE,
)
_CRASH_HEADING = re.compile(rb"VM_STRUCT +ADDRESS RANGE +SIZE")


def as_vmallocinfo(data: bytes) -> Tuple[bytes, str]:
    """Return a text as the kernel would have it, and which tool it was of, if any."""
    sample = data[:_SAMPLE]
    if _CRASH_HEADING.search(sample):
        return _CRASH.sub(_of_crash, data), "kmem -v of crash, which tells no callers"
    rows = [
        found for found in _DEBUGGER.finditer(sample) if len(found[3]) == _SIZE_WIDTH
    ]
    lines = sample.count(b"\n0x") + sample.startswith(b"0x")
    if rows and len(rows) * 2 > lines:
        return _DEBUGGER.sub(_of_debugger, data), "a debugger, which tells no nodes"
    return data, ""


def _of_crash(found: "Match[bytes]") -> bytes:
    return b"0x%s-0x%s %7d <unknown>" % (found[1], found[2], int(found[3]))


def _of_debugger(found: "Match[bytes]") -> bytes:
    if len(found[3]) != _SIZE_WIDTH:
        return found[0]
    start, end, _, caller, pages, phys, labels = found.groups()
    caller = b" <%s>" % caller if caller else b""
    at = b" phys=%s" % phys.lstrip(b"0") if phys else b""
    size = b"%7d" % int(found[3])
    return b"0x%s-0x%s %s%s%s%s%s" % (start, end, size, caller, pages, at, labels)
