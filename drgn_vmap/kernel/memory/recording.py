# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Recording
---------

A second program that reads a target's memory through the first one and notes every byte
that was read, by whomever: by this package or by drgn's own code that walks page
tables. What these bytes are enough for, a vmcore of just these bytes is enough for too.

All reads end at physical memory: drgn translates virtual addresses through the
kernel's page table, whose entries are noted as well. Pages are fetched whole, and once;
what of them nobody asked for is not noted.
"""

from typing import Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from drgn import FaultError, Program, ProgramFlags

from ..._drgn import make_linux_kernel
from ..._numpy import U64Array, np
from .direct_map import map_of_tables

__all__ = ("Recorder",)

_RUN_PAGES = 256
"""Pages fetched in one go."""
_GRAIN = 8
"""Bytes that are noted together: a word, which most that is read is made of."""
_FRAMES_AT_ONCE = 4096


class Recorder:
    """
    Notes the bytes that are read through the programs it starts.

    :param source: Where the bytes come from.
    :param vmcoreinfo: What the programs find in VMCOREINFO.
    :param page_size: Bytes of a page.
    :param on_read: Called with the count of pages whenever there are more.
    :param vmlinux: The kernel's file with debug info, for programs to load.
    """

    def __init__(
        self,
        source: Program,
        vmcoreinfo: bytes,
        page_size: int,
        on_read: Callable[[int], None],
        vmlinux: Optional[str] = None,
    ) -> None:
        self._source = source
        self._vmcoreinfo = vmcoreinfo
        self._page_size = page_size
        self._on_read = on_read
        self._vmlinux = vmlinux
        self._pages: Dict[int, bytes] = {}
        self._not_whole: Set[int] = set()
        self._noted: Dict[int, int] = {}

    def start(self) -> Program:
        """
        Return a new program. Pages that others read are there already, but count
        only as far as this one reads them as well.
        """
        self._noted = {}
        program = Program(self._source.platform, vmcoreinfo=self._vmcoreinfo)
        program.add_memory_segment(0, (1 << 64) - 1, self._read, physical=True)
        # Reading what changes meanwhile is bounded more tightly.
        is_live = bool(self._source.flags & ProgramFlags.IS_LIVE)
        make_linux_kernel(program, self._vmcoreinfo, is_live)
        part = map_of_tables(self._source)
        if part:
            offset = part.phys - part.start
            program.add_memory_segment(
                part.start,
                part.size,
                lambda at, count, *_: self._read(at + offset, count, 0, True),
            )
        if self._vmlinux:
            program.load_debug_info([self._vmlinux])
        return program

    def refresh(self, keep: Set[int]) -> None:
        """
        Read all pages anew, in one go, so that they are nearly of one moment.

        :param keep: Frames of pages that never change.
        """
        changing = sorted(self._pages.keys() - keep)
        for frame in changing:
            del self._pages[frame]
        for first, count in _runs(changing):
            self._fetch(first, first + count)

    def frames(self) -> Set[int]:
        """Return the frames of the pages that the last program read something of."""
        return set(self._noted)

    def note(self, frame: int) -> bool:
        """Note a whole page, if it can be read; return whether that is so."""
        try:
            self.contents(frame * self._page_size, self._page_size)
        except FaultError:
            return False
        self._note(frame, 0, self._page_size)
        return True

    def spans(self) -> Tuple[U64Array, U64Array]:
        """
        Return where physical memory is noted.

        :return: Where each span begins, ascending, and its bytes. No two adjoin.
        """
        frames = sorted(self._noted)
        parts = [
            self._spans(frames[at : at + _FRAMES_AT_ONCE])
            for at in range(0, len(frames), _FRAMES_AT_ONCE)
        ]
        begins, ends = (
            np.concatenate((np.empty(0, np.uint64), *column))
            for column in (zip(*parts) if parts else ((), ()))
        )
        apart = begins[1:] != ends[:-1]
        begins = begins[np.append(True, apart)[: len(begins)]]
        ends = ends[np.append(apart, True)[: len(ends)]]
        return begins, ends - begins

    def contents(self, address: int, count: int) -> bytes:
        """
        Return what physical memory holds. Pages that no program read are not kept.

        :raises FaultError: if it cannot be read.
        """
        return b"".join(
            self._part(frame, start, end)
            for frame, start, end in self._parts(address, count)
        )

    def _read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        """Read physical memory; drgn calls this."""
        parts = list(self._parts(address, count))
        pages = self._pages
        if not all(frame in pages or frame in self._not_whole for frame, *_ in parts):
            self._fetch(parts[0][0], parts[-1][0] + 1)
            self._on_read(len(pages))
        data = b"".join(self._part(*part) for part in parts)
        for part in parts:
            self._note(*part)
        return data

    def _parts(self, address: int, count: int) -> Iterator[Tuple[int, int, int]]:
        """Yield the frame of each page that has some of these bytes, and which of its."""
        size = self._page_size
        end = address + count
        for frame in range(address // size, -(-end // size)):
            first = frame * size
            yield frame, max(address - first, 0), min(end - first, size)

    def _part(self, frame: int, start: int, end: int) -> bytes:
        """
        Return bytes of a page.

        :raises FaultError: if they cannot be read.
        """
        page = self._pages.get(frame)
        if page is not None:
            return page[start:end]
        address = frame * self._page_size + start
        # Of a slice's page, there is no more than what was noted then.
        try:
            return self._source.read(address, end - start, physical=True)
        except OSError as e:
            raise FaultError(str(e), address) from e

    def _note(self, frame: int, start: int, end: int) -> None:
        """Note bytes of a page: a bit for each grain."""
        grains = (1 << -(-end // _GRAIN)) - (1 << start // _GRAIN)
        self._noted[frame] = self._noted.get(frame, 0) | grains

    def _spans(self, frames: List[int]) -> Tuple[U64Array, U64Array]:
        """Return where what is noted of pages begins and ends, each page by itself."""
        grains = self._page_size // _GRAIN
        # A grain of none on both sides of each page shows where its spans end.
        bits = np.zeros((len(frames), grains + 2), np.int8)
        raw = b"".join(
            self._noted[frame].to_bytes(grains // 8, "little") for frame in frames
        )
        bits[:, 1:-1] = np.unpackbits(
            np.frombuffer(raw, np.uint8), bitorder="little"
        ).reshape(len(frames), grains)
        steps = np.diff(bits, axis=1)
        first = np.array(frames, np.uint64) * np.uint64(self._page_size)
        begins, ends = (
            first[row] + grain.astype(np.uint64) * np.uint64(_GRAIN)
            for row, grain in (np.nonzero(steps == 1), np.nonzero(steps == -1))
        )
        return begins, ends

    def _fetch(self, first: int, end: int) -> None:
        """Get pages that are not there yet; those that cannot be read stay away."""
        missing = [frame for frame in range(first, end) if frame not in self._pages]
        for start, count in _runs(missing):
            try:
                self._keep(start, self._whole(start, count))
            except (FaultError, OSError):
                if count == 1:
                    self._not_whole.add(start)
                for frame in range(start, start + count) if count > 1 else ():
                    self._fetch(frame, frame + 1)

    def _whole(self, frame: int, count: int) -> bytes:
        size = self._page_size
        return self._source.read(frame * size, count * size, physical=True)

    def _keep(self, first: int, data: bytes) -> None:
        size = self._page_size
        for at in range(0, len(data), size):
            self._pages[first + at // size] = data[at : at + size]


def _runs(frames: Iterable[int]) -> Iterator[Tuple[int, int]]:
    """Yield the first of adjacent ascending frames, and how many they are."""
    run: List[int] = []
    for frame in frames:
        if run and (frame != run[-1] + 1 or len(run) == _RUN_PAGES):
            yield run[0], len(run)
            run = []
        run.append(frame)
    if run:
        yield run[0], len(run)
