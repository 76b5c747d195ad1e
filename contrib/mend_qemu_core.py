#!/usr/bin/env python3
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Mend the ELF vmcores that QEMU writes of ppc64le, s390x, riscv64 and 32-bit Arm guests, for
drgn to open:

    mend_qemu_core.py CORE

What QEMU 7.2's dump-guest-memory writes of such a guest, drgn takes for a user's process,
or cannot translate addresses of:

- it has no VMCOREINFO, as these machines have no vmcoreinfo device, or their kernels
  nothing that writes to it. The kernel keeps its VMCOREINFO in memory, as an ELF note, so
  it is in the dump all the same and is found there;
- the one of ppc64le says that it is big-endian. The note in memory tells what is right;
- those of ppc64le and Arm say that memory is mapped where it lies. The kernel's linear
  mapping begins at 0xc000000000000000, and on Arm at PAGE_OFFSET. There it is not of all
  memory, but of the first 16 MiB, and the kernel's page table lies in these: the rest is
  said to be mapped at the very last address, which is nowhere;
- those of ppc64le and s390x have one segment, at physical address 0, which drgn takes for
  a dump without physical addresses, so the first 64 KiB become a segment of their own.

The memory in the file stays as it is. Notes and program headers are written anew behind
its end, and then the ELF header that points there: the file grows by a few KiB. QEMU's
notes, the processors' registers, are kept unless they are in the wrong byte order.

A file that already has VMCOREINFO is left alone. Dumps of x86_64 and arm64 guests need
no mending: give QEMU `-device vmcoreinfo`, and load qemu_fw_cfg in the guest.

Tried on dumps of Debian's 6.1 and 6.12 for ppc64el and s390x, and 6.12 for armhf and
riscv64, by QEMU 7.2; tests/lab/test_foreign.py does it again, and has pyelftools check the
result. Python 3.8, nothing else.
"""

import mmap
import re
import struct
import sys
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

NOTE = "III"
EI_CLASS, EI_DATA, LITTLE, BIG = 4, 5, 1, 2
PT_LOAD, PT_NOTE = 1, 4
NAME = b"VMCOREINFO\0"
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

    def split(self, size: int) -> Iterator["Segment"]:
        """Yield it in two, the first of so many bytes; or whole if it has no more."""
        if self.file_bytes <= size:
            yield self
            return
        yield self._replace(file_bytes=size, bytes=size)
        yield self._replace(
            offset=self.offset + size,
            physical=self.physical + size,
            file_bytes=self.file_bytes - size,
            bytes=self.bytes - size,
        )


class Layout(NamedTuple):
    """How an ELF file of 32 or 64 bits has its headers."""

    header: str
    segment: str
    fields: Tuple[str, ...]
    """Of a program header, in their order."""

    def read_segment(self, order: str, data: mmap.mmap, at: int) -> Segment:
        values = struct.unpack_from(order + self.segment, data, at)
        return Segment(**dict(zip(self.fields, values)))

    def segment_bytes(self, order: str, one: Segment) -> bytes:
        values = (getattr(one, name) for name in self.fields)
        return struct.pack(order + self.segment, *values)

    def header_bytes(self, old: tuple, order: str, table: int, count: int) -> bytes:
        ident = bytearray(old[0])
        ident[EI_DATA] = LITTLE if order == "<" else BIG
        new = list(old)
        # No sections: QEMU may have had one for a great many segments.
        new[0], new[5], new[6], new[10:] = bytes(ident), table, 0, [count, 0, 0, 0]
        return struct.pack(order + self.header, *new)


PLACE = ("offset", "virtual", "physical", "file_bytes", "bytes")
LAYOUTS = {
    1: Layout("16sHHIIIIIHHHHHH", "IIIIIIII", ("type", *PLACE, "flags", "align")),
    2: Layout("16sHHIQQQIHHHHHH", "IIQQQQQQ", ("type", "flags", *PLACE, "align")),
}
"""By EI_CLASS."""


def at_zero(start: int) -> Callable[[List[Segment], bytes], Iterator[Segment]]:
    """Return what has a linear mapping begin at an address, and memory at 0."""

    def mapped(loads: List[Segment], text: bytes) -> Iterator[Segment]:
        is_lone = len(loads) == 1 and loads[0].physical == 0
        for part in loads[0].split(64 << 10) if is_lone else loads:
            yield part._replace(virtual=start + part.physical)

    return mapped


def arm(loads: List[Segment], text: bytes) -> Iterator[Segment]:
    """Map the beginning of memory, which the kernel's image is in, at PAGE_OFFSET."""
    table = re.search(rb"SYMBOL\(swapper_pg_dir\)=([0-9a-f]{1,8})\n", text)
    if table is None:
        raise Cannot("its VMCOREINFO names no swapper_pg_dir: dump again")
    # The page table lies not as far behind PAGE_OFFSET, whichever that is.
    size = 16 << 20
    image, *others = loads[0].split(size)
    yield image._replace(virtual=int(table[1], 16) // size * size)
    for part in (*others, *loads[1:]):
        yield part._replace(virtual=0xFFFFFFFF)


MACHINES: Dict[int, Tuple[str, Callable[[List[Segment], bytes], Iterator[Segment]]]] = {
    21: ("ppc64", at_zero(0xC000000000000000)),
    22: ("s390x", at_zero(0)),
    40: ("arm", arm),
    243: ("riscv", at_zero(0)),
}
"""By e_machine: what it is called, and what tells where its memory is mapped."""


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
        layout, order, header, segments = read_headers(data)
        if header[2] not in MACHINES:
            raise Cannot(
                "no dump of a ppc64le, s390x, riscv64 or 32-bit Arm guest: others need no mending"
            )
        name, mapped = MACHINES[header[2]]
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
    headers = [Segment(PT_NOTE, 0, start, 0, 0, len(new), 0, 4), *mapped(loads, text)]
    new += bytes(-len(new) % 8)
    table = b"".join(layout.segment_bytes(right_order, one) for one in headers)
    file.seek(start)
    file.write(new + table)
    file.flush()
    # Last, so that whatever goes wrong before leaves the file as it was.
    file.seek(0)
    file.write(layout.header_bytes(header, right_order, start + len(new), len(headers)))
    release = text.split(b"\n", 1)[0].decode("ascii", "replace")
    kept = "kept" if notes else "dropped, as their byte order was wrong"
    endian = "little" if right_order == "<" else "big"
    return f"mended: {name}, {endian}-endian, {release}; QEMU's notes were {kept}"


def read_headers(data: mmap.mmap) -> Tuple[Layout, str, tuple, List[Segment]]:
    """Return how headers are laid out, in which byte order, the ELF header and the others."""
    is_elf = data[:4] == b"\x7fELF" and len(data) > EI_DATA
    layout = LAYOUTS.get(data[EI_CLASS]) if is_elf else None
    if layout is None or data[EI_DATA] not in (LITTLE, BIG):
        raise Cannot("no ELF file: have QEMU write one (dump-guest-memory)")
    order = "<" if data[EI_DATA] == LITTLE else ">"
    header = struct.unpack_from(order + layout.header, data)
    start, size, count = header[5], header[9], header[10]
    if size != struct.calcsize(order + layout.segment) or start + size * count > len(data):
        raise Cannot("its program headers are damaged or not all there: dump again")
    segments = [layout.read_segment(order, data, start + size * at) for at in range(count)]
    return layout, order, header, segments


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


if __name__ == "__main__":
    sys.exit(main())
