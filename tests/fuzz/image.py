# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A sample as bytes that can be damaged, and programs that read them."""

from __future__ import annotations

import itertools
import os
import struct
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import partial
from typing import Callable, Iterator, Optional, Sequence

from drgn import FaultError, Program

from .inputs import Cut, Edit, Lose, Note, Write

__all__ = ("PAGE", "Image", "Load")

PAGE = 4096
_EHDR_PHOFF, _EHDR_PHNUM = 32, 56
_PHDR = struct.Struct("<IIQQQQQQ")
_PT_LOAD, _PT_NOTE = 1, 4
_NOTE = struct.Struct("<III")
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Load:
    """One PT_LOAD."""

    flags: int
    offset: int
    virtual: int
    physical: int
    size: int

    @property
    def frames(self) -> range:
        """The frames of the pages that it has, wholly or in part."""
        return range(self.physical // PAGE, -(-(self.physical + self.size) // PAGE))

    def header(self) -> bytes:
        """Return it as it is written in a file."""
        return _PHDR.pack(
            _PT_LOAD,
            self.flags,
            self.offset,
            self.virtual,
            self.physical,
            self.size,
            self.size,
            PAGE,
        )


class Image:
    """
    A sample, undamaged until :meth:`damage` is called, once, in a process of its own.

    :param data: The vmcore.
    """

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.on_read: Optional[Callable[[int, int], None]] = None
        """Is told where in the file what is read lies, and how many bytes."""
        headers = [*_headers(data)]
        loads = [h for h in headers if h[0] == _PT_LOAD]
        self.loads = sorted(
            (Load(h[1], h[2], h[3], h[4], h[5]) for h in loads),
            key=lambda load: load.physical,
        )
        self.note = next((h[2], h[5]) for h in headers if h[0] == _PT_NOTE)
        """Where in the file the notes are, and how many bytes."""
        source = self._opened(data)
        self.vmcoreinfo = bytes(source["VMCOREINFO"].string_())
        self._platform = source.platform
        self._memory = bytearray(data)
        self._lost: set[int] = set()
        self._starts = [load.physical for load in self.loads]
        self._virtual = sorted(self.loads, key=lambda load: load.virtual)
        self._virtual_starts = [load.virtual for load in self._virtual]

    def program(self) -> Program:
        """Return a program that reads this image as it is at that moment."""
        prog = Program(self._platform, vmcoreinfo=self.vmcoreinfo)
        prog.set_linux_kernel_custom(self.vmcoreinfo, is_live=False)
        for load in self.loads:
            read = partial(self._read, load)
            prog.add_memory_segment(load.physical, load.size, read, physical=True)
            if load.virtual:
                prog.add_memory_segment(load.virtual, load.size, read)
        return prog

    def damage(self, edits: Sequence[Edit]) -> None:
        """Damage what programs read; headers and notes were read before."""
        for edit in edits:
            if isinstance(edit, Write):
                new = bytes.fromhex(edit.hex)
                self._memory[edit.offset : edit.offset + len(new)] = new
            elif isinstance(edit, Lose):
                self._lost.add(edit.frame)
            else:
                raise ValueError(f"{edit} needs a fresh program")

    def open_file(self, edits: Sequence[Edit]) -> tuple[Program, str]:
        """
        Open a vmcore that is damaged so; return its name as well, good in this process.

        :raises Exception: whatever drgn raises.
        """
        # Of a name of its own, by which it can be told from others of this process.
        fd = os.memfd_create(f"vmcore-{next(_NUMBERS)}")
        os.write(fd, self.data)
        for edit in edits:
            if isinstance(edit, Write):
                os.pwrite(fd, bytes.fromhex(edit.hex), edit.offset)
        lost = {edit.frame for edit in edits if isinstance(edit, Lose)}
        notes = [bytes.fromhex(edit.hex) for edit in edits if isinstance(edit, Note)]
        if lost or notes:
            self._rewrite(fd, lost, notes[-1] if notes else None)
        for edit in edits:
            if isinstance(edit, Cut):
                os.ftruncate(fd, min(edit.size, os.fstat(fd).st_size))
        prog = Program()
        name = f"/proc/self/fd/{fd}"
        prog.set_core_dump(name)
        return prog, name

    def frames(self) -> list[int]:
        """Return the frames of all pages of which there is anything."""
        found: set[int] = set()
        for load in self.loads:
            found.update(load.frames)
        return sorted(found)

    def at_frame(self, frame: int) -> int:
        """Return where in the file something of a page lies."""
        load = next(load for load in self.loads if frame in load.frames)
        return load.offset + max(frame * PAGE - load.physical, 0)

    def at_physical(self, address: int) -> Optional[int]:
        """Return where in the file a physical address lies."""
        load = self.loads[bisect_right(self._starts, address) - 1]
        inside = address - load.physical
        return load.offset + inside if 0 <= inside < load.size else None

    def at_virtual(self, address: int) -> Optional[int]:
        """Return where in the file an address of the direct map lies."""
        load = self._virtual[bisect_right(self._virtual_starts, address) - 1]
        inside = address - load.virtual
        return load.offset + inside if 0 <= inside < load.size else None

    def _opened(self, data: bytes) -> Program:
        fd = os.memfd_create("sample")
        try:
            os.write(fd, data)
            prog = Program()
            prog.set_core_dump(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        return prog

    def _read(
        self, load: Load, address: int, count: int, offset: int, physical: bool
    ) -> bytes:
        if self._lost:
            first = (load.physical + offset) // PAGE
            last = (load.physical + offset + count - 1) // PAGE
            if not self._lost.isdisjoint(range(first, last + 1)):
                raise FaultError("page is lost", address)
        start = load.offset + offset
        if self.on_read:
            self.on_read(start, count)
        return bytes(self._memory[start : start + count])

    def _rewrite(self, fd: int, lost: set[int], vmcoreinfo: Optional[bytes]) -> None:
        """Put other program headers, and another note, at the end of the file."""
        at, size = self.note
        end, more = len(self.data), b""
        if vmcoreinfo is not None:
            name = b"VMCOREINFO\0\0"
            note = _NOTE.pack(11, len(vmcoreinfo), 0) + name + vmcoreinfo
            note += bytes(-len(note) % 4)
            at, size = end, len(note)
            # Program headers lie where their words are aligned.
            more = note + bytes(-len(note) % 8)
        headers = [_PHDR.pack(_PT_NOTE, 0, at, 0, 0, size, 0, 4)]
        for load in self.loads:
            headers += [part.header() for part in _without(load, lost)]
        os.pwrite(fd, more + b"".join(headers), end)
        os.pwrite(fd, struct.pack("<Q", end + len(more)), _EHDR_PHOFF)
        os.pwrite(fd, struct.pack("<H", len(headers)), _EHDR_PHNUM)


def _headers(data: bytes) -> Iterator[tuple[int, ...]]:
    (start,) = struct.unpack_from("<Q", data, _EHDR_PHOFF)
    (count,) = struct.unpack_from("<H", data, _EHDR_PHNUM)
    end = start + count * _PHDR.size
    return _PHDR.iter_unpack(data[start:end])


def _without(load: Load, lost: set[int]) -> Iterator[Load]:
    """Yield the parts of a PT_LOAD between lost pages."""
    begin, end = 0, load.size
    for frame in sorted(lost.intersection(load.frames)):
        first = frame * PAGE - load.physical
        yield from _part(load, begin, first)
        begin = first + PAGE
    yield from _part(load, begin, end)


def _part(load: Load, begin: int, end: int) -> Iterator[Load]:
    """Yield bytes of a PT_LOAD, unless there are none."""
    if begin < end:
        yield replace(
            load,
            offset=load.offset + begin,
            virtual=load.virtual and load.virtual + begin,
            physical=load.physical + begin,
            size=end - begin,
        )
