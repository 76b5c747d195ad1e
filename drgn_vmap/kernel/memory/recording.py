# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Recording
---------

A second program that reads a target's memory through the first one and keeps
every page that was read, by whomever: by this package or by drgn's own code that
walks page tables. What these pages are enough for, a vmcore of just these pages
is enough for too.

All reads end at physical memory: drgn translates virtual addresses through the
kernel's page table, whose pages are kept as well.
"""

from typing import Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from drgn import Architecture, FaultError, Program, ProgramFlags

from .ppc64 import LINEAR_BYTES, LINEAR_START

__all__ = ("Recorder",)

_RUN_PAGES = 256
"""Pages fetched in one go."""


class Recorder:
    """
    Keeps the pages that are read through the programs it starts.

    :param source: Where the pages come from.
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
        self._touched: Set[int] = set()

    def start(self) -> Program:
        """
        Return a new program. Pages that others read are there already, but count
        only once this one reads them as well.
        """
        self._touched = set()
        program = Program(self._source.platform, vmcoreinfo=self._vmcoreinfo)
        program.add_memory_segment(0, (1 << 64) - 1, self._read, physical=True)
        # Reading what changes meanwhile is bounded more tightly.
        is_live = bool(self._source.flags & ProgramFlags.IS_LIVE)
        program.set_linux_kernel_custom(self._vmcoreinfo, is_live=is_live)
        platform = self._source.platform
        # drgn finds the page tables of ppc64 by their addresses in the linear mapping,
        # which a real vmcore's program headers describe.
        if platform is not None and platform.arch == Architecture.PPC64:
            program.add_memory_segment(
                LINEAR_START,
                LINEAR_BYTES,
                lambda at, count, *_: self._read(at - LINEAR_START, count, 0, True),
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
        """Return the frames of the pages that the last program read."""
        return set(self._touched)

    def page(self, frame: int) -> bytes:
        """
        Return a page's contents, which is kept only if it was read before.

        :raises FaultError: if it cannot be read.
        """
        page = self._pages.get(frame)
        return self._contents(frame, 1) if page is None else page

    def _read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        """Read physical memory; drgn calls this."""
        first, start = divmod(address, self._page_size)
        end = -(-(address + count) // self._page_size)
        pages = self._pages
        wanted = range(first, end)
        if not all(frame in pages for frame in wanted):
            self._fetch(first, end)
            self._on_read(len(pages))
        for frame in wanted:
            if frame not in pages:
                where = max(address, frame * self._page_size)
                raise FaultError("page cannot be read", where)
        self._touched.update(wanted)
        if end - first == 1:
            return pages[first][start : start + count]
        data = b"".join(pages[frame] for frame in wanted)
        return data[start : start + count]

    def _fetch(self, first: int, end: int) -> None:
        """Get pages that are not there yet; those that cannot be read stay away."""
        missing = [frame for frame in range(first, end) if frame not in self._pages]
        for start, count in _runs(missing):
            try:
                self._keep(start, self._contents(start, count))
            except (FaultError, OSError):
                for frame in range(start, start + count) if count > 1 else ():
                    self._fetch(frame, frame + 1)

    def _contents(self, frame: int, count: int) -> bytes:
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
