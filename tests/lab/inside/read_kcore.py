# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Read pages of /proc/kcore, as drgn and gdb do but without them.

The addresses come from standard input, a line each; the pages go to standard output,
in that order.
"""

import struct
import sys
from typing import Iterator, Tuple

PAGE_BYTES = 4096
PT_LOAD = 1
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")


def segments(kcore: bytes) -> Iterator[Tuple[int, int, int]]:
    """Yield address, size and place in the file of what can be read."""
    offset, count = HEADER.unpack_from(kcore)[5], HEADER.unpack_from(kcore)[10]
    for index in range(count):
        kind, _, place, address, _, size, _, _ = SEGMENT.unpack_from(
            kcore, offset + index * SEGMENT.size
        )
        if kind == PT_LOAD:
            yield address, size, place


with open("/proc/kcore", "rb", buffering=0) as file:
    readable = list(segments(file.read(PAGE_BYTES)))
    for line in sys.stdin:
        wanted = int(line, 16)
        [position] = (
            place + wanted - address
            for address, size, place in readable
            if address <= wanted < address + size
        )
        file.seek(position)
        sys.stdout.buffer.write(file.read(PAGE_BYTES))
