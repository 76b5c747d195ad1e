#!/usr/bin/env python3
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Mend the ELF vmcores that QEMU writes of ppc64le and s390x guests, for drgn to open:

    mend_qemu_core.py CORE

What QEMU 7.2's dump-guest-memory writes of such a guest, drgn takes for a user's process,
or cannot translate addresses of:

- it has no VMCOREINFO, as these machines have no vmcoreinfo device. The kernel keeps its
  VMCOREINFO in memory, as an ELF note, so it is in the dump all the same and is found
  there;
- the one of ppc64le says that it is big-endian. The note in memory tells what is right;
- the one of ppc64le says that memory is mapped where it lies. The kernel's linear mapping
  begins at 0xc000000000000000;
- its only segment begins at physical address 0, which drgn takes for a dump without
  physical addresses, so the first 64 KiB become a segment of their own.

The memory in the file stays as it is. Notes and program headers are written anew behind
its end, and then the ELF header that points there: the file grows by a few KiB. QEMU's
notes, the processors' registers, are kept unless they are in the wrong byte order.

A file that already has VMCOREINFO is left alone. Dumps of x86_64 and arm64 guests need
no mending: give QEMU `-device vmcoreinfo`, and load qemu_fw_cfg in the guest.

Tried on dumps of Debian's 6.1 and 6.12 for ppc64el and s390x, by QEMU 7.2;
tests/lab/test_foreign.py does it again, and has pyelftools check the result. Python 3.8,
nothing else.
"""

import mmap
import struct
import sys
from typing import Iterator, List, NamedTuple, Tuple

EHDR, PHDR, NOTE = "16sHHIQQQIHHHHHH", "IIQQQQQQ", "III"
EI_DATA, LITTLE, BIG = 5, 1, 2
PT_LOAD, PT_NOTE = 1, 4
NAME = b"VMCOREINFO\0"
MACHINES = {21: ("ppc64", 0xC000000000000000), 22: ("s390x", 0)}
"""By e_machine: what it is called, and where its linear mapping begins."""
FIRST_PART = 64 << 10
MAX_TEXT = 1 << 16


class Cannot(Exception):
    """The file cannot be mended; the text says why, and what to do."""


class Segment(NamedTuple):
    """A program header."""

    type: int
    flags: int
    offset: int
    virtual: int
    physical: int
    file_bytes: int
    bytes: int
    align: int


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        with open(sys.argv[1], "r+b") as file:
            print(mend(file))
    except (Cannot, OSError) as error:
        print(f"mend_qemu_core.py: {error}", file=sys.stderr)
        return 2
    return 0


def mend(file) -> str:
    """Mend an open file, and return what was done to it."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        order, header, segments = read_headers(data)
        if header[2] not in MACHINES:
            raise Cannot("no dump of a ppc64le or s390x guest: others need no mending")
        name, linear = MACHINES[header[2]]
        notes = [data[s.offset : s.offset + s.file_bytes] for s in segments if s.type == PT_NOTE]
        if any(NAME in note for note in notes):
            raise Cannot("this file has VMCOREINFO already: nothing is to be mended")
        loads = [segment for segment in segments if segment.type == PT_LOAD]
        right_order, text = find_vmcoreinfo(data, loads)
        if right_order != order:
            notes = []
        size = len(data)
    new = b"".join(notes) + vmcoreinfo_note(right_order, text)
    start = -(-size // 8) * 8
    headers = [Segment(PT_NOTE, 0, start, 0, 0, len(new), 0, 4)]
    headers += [part._replace(virtual=linear + part.physical) for part in split(loads)]
    new += bytes(-len(new) % 8)
    table = b"".join(struct.pack(right_order + PHDR, *one) for one in headers)
    file.seek(start)
    file.write(new + table)
    file.flush()
    # Last, so that whatever goes wrong before leaves the file as it was.
    file.seek(0)
    file.write(elf_header(header, right_order, start + len(new), len(headers)))
    release = text.split(b"\n", 1)[0].decode("ascii", "replace")
    kept = "kept" if notes else "dropped, as their byte order was wrong"
    endian = "little" if right_order == "<" else "big"
    return f"mended: {name}, {endian}-endian, {release}; QEMU's notes were {kept}"


def read_headers(data: mmap.mmap) -> Tuple[str, tuple, List[Segment]]:
    """Return byte order, ELF header and program headers."""
    if data[:4] != b"\x7fELF" or data[4] != 2 or data[EI_DATA] not in (LITTLE, BIG):
        raise Cannot("no ELF file of 64 bits: have QEMU write one (dump-guest-memory)")
    order = "<" if data[EI_DATA] == LITTLE else ">"
    header = struct.unpack_from(order + EHDR, data)
    start, size, count = header[5], header[9], header[10]
    if size != struct.calcsize(order + PHDR) or start + size * count > len(data):
        raise Cannot("its program headers are damaged or not all there: dump again")
    segments = [
        Segment(*struct.unpack_from(order + PHDR, data, start + size * index))
        for index in range(count)
    ]
    return order, header, segments


def find_vmcoreinfo(data: mmap.mmap, loads: List[Segment]) -> Tuple[str, bytes]:
    """Return the byte order of the guest, and the text of its VMCOREINFO."""
    for load in loads:
        end = min(load.offset + load.file_bytes, len(data))
        at = data.find(NAME + b"\0OSRELEASE=", load.offset, end)
        while at >= 0:
            for order in "<>":
                name_bytes, size, type_ = struct.unpack_from(order + NOTE, data, at - 12)
                if name_bytes == len(NAME) and type_ == 0 and size <= MAX_TEXT:
                    return order, data[at + 12 : at + 12 + size]
            at = data.find(NAME + b"\0OSRELEASE=", at + 1, end)
    raise Cannot(
        "no VMCOREINFO is in this memory: the guest's kernel needs CONFIG_CRASH_CORE, "
        "and its dump all of its memory"
    )


def vmcoreinfo_note(order: str, text: bytes) -> bytes:
    note = struct.pack(order + NOTE, len(NAME), len(text), 0) + NAME + b"\0" + text
    return note + bytes(-len(note) % 4)


def split(loads: List[Segment]) -> Iterator[Segment]:
    """Yield the segments, the first part of a lone one at address 0 by itself."""
    if len(loads) > 1 or loads[0].physical or loads[0].file_bytes <= FIRST_PART:
        yield from loads
        return
    whole = loads[0]
    yield whole._replace(file_bytes=FIRST_PART, bytes=FIRST_PART)
    yield whole._replace(
        offset=whole.offset + FIRST_PART,
        physical=whole.physical + FIRST_PART,
        file_bytes=whole.file_bytes - FIRST_PART,
        bytes=whole.bytes - FIRST_PART,
    )


def elf_header(old: tuple, order: str, table: int, count: int) -> bytes:
    ident = bytearray(old[0])
    ident[EI_DATA] = LITTLE if order == "<" else BIG
    new = list(old)
    # No sections: QEMU may have had one for a great many segments.
    new[0], new[5], new[6], new[10:] = bytes(ident), table, 0, [count, 0, 0, 0]
    return struct.pack(order + EHDR, *new)


if __name__ == "__main__":
    sys.exit(main())
