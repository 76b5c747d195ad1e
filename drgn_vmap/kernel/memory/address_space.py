# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Address space
-------------

The kernel's memory by virtual address, one read at a time, as drgn asks for it: each
address is looked up in the kernel's page table, and read by physical address. To look up
many at once, see :mod:`.page_table`.
"""

import time
from typing import Any, Callable, Dict, List, Tuple, Union

from drgn import FaultError, Program

from ..._numpy import np
from .table_formats import ENTRY_BYTES, ENTRY_SHIFT, TableFormat

__all__ = ("AddressSpace", "Buffer")

_AT_ONCE = 16 << 10
"""What is read at once of long pieces: memory of that size is there again and again."""
_KEPT_SECONDS = 0.01
"""
How long is kept where tables are: as long as a task may wait for a processor midway through
a walk, which so may be as old without. The kernel frees a table of vmalloc space only where
a huge mapping takes its place. Entries of single pages are read each time.
"""

Buffer = Union[bytes, memoryview]

_Table = Tuple[int, bool]
"""
Where the table is that an address is looked up in; or, where one above leads there at once,
the memory that it would translate; and whether it is that.
"""


class AddressSpace:
    """
    Kernel memory by virtual address, through the kernel's page table.

    A read within a page, as most are, takes two of physical memory: the page's entry and
    the bytes; they are done in plain Python, as for one entry numpy would take longer. A
    longer one takes the entries together, and the bytes piece by piece.

    :param root: Physical address of the uppermost table.
    """

    def __init__(
        self,
        prog: Program,
        format_: TableFormat,
        root: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = prog.read
        self._root = root
        self._clock = clock
        self._format = format_
        self._order: Any = "big" if format_.order == ">" else "little"
        self._present, self._frame = format_.present, format_.frame
        self._page_shift = format_.shifts[-1]
        self._page_size = 1 << self._page_shift
        self._page_mask = self._page_size - 1
        self._region_shift = format_.shifts[-2]
        self._region_size = 1 << self._region_shift
        """Bytes that one table of pages translates."""
        self._region_mask = self._region_size - 1
        self._windows = format_.windows()
        self._levels = [
            (shift, ENTRY_BYTES << format_.index_bits(level))
            for level, shift in enumerate(format_.shifts[:-1])
        ]
        """Of those above, the shift and how many bytes they have."""
        self._regions: Dict[int, _Table] = {}
        self._upper: Dict[int, bytes] = {}
        """Of each table above, all entries."""
        self._until = 0.0
        self._buffer = memoryview(b"")

    def read(self, address: int, count: int) -> Buffer:
        """
        Read memory.

        :return: What is good until the next read.
        :raises FaultError: at the first address that nothing is mapped at, or that leads
            to what is no RAM.
        """
        inside = address & self._page_mask
        if inside + count > self._page_size:
            return self._read_pages(address, count)
        region = self._regions.get(address >> self._region_shift)
        if region is None or self._clock() > self._until:
            region = self._region(address)
        phys, is_memory = region
        try:
            if is_memory:
                return self._read(phys + (address & self._region_mask), count, True)
            phys += (address & self._region_mask) >> self._page_shift << ENTRY_SHIFT
            raw = self._read(phys, ENTRY_BYTES, True)
            entry = int.from_bytes(raw, self._order)
            if self._present(entry, True):
                phys = self._frame(entry) + inside
                return self._read(phys, count, True)
        except FaultError as e:
            raise _no_ram(e, address) from e
        raise _not_mapped(address)

    def _read_pages(self, address: int, count: int) -> Buffer:
        if len(self._buffer) < count:
            self._buffer = memoryview(bytearray(count))
        into, done = self._buffer[:count], 0
        while done < count:
            at = address + done
            in_region = at & self._region_mask
            size = min(count - done, self._region_size - in_region)
            phys, is_memory = self._region(at)
            if is_memory:
                runs = [(phys + in_region, size, at)]
            else:
                runs = self._runs(phys, at, size)
            for phys, size, at in runs:
                self._read_run(phys, at, into[at - address : at - address + size])
                done += size
        return into

    def _read_run(self, phys: int, address: int, into: memoryview) -> None:
        """Read what lies together, in parts that Python has memory for at hand."""
        for at in range(0, len(into), _AT_ONCE):
            part = into[at : at + _AT_ONCE]
            part[:] = self._physical(phys + at, len(part), address + at)

    def _runs(self, table: int, address: int, size: int) -> List[Tuple[int, int, int]]:
        """
        Look up what one table of pages translates.

        :return: Of each piece that lies together: physical address, size and address.
        """
        inside = address & self._page_mask
        first = (address & self._region_mask) >> self._page_shift
        count = (inside + size - 1) // self._page_size + 1
        place = table + (first << ENTRY_SHIFT)
        raw = self._physical(place, count << ENTRY_SHIFT, address)
        entries = np.frombuffer(raw, f"{self._format.order}u8")
        lost = np.flatnonzero(~self._present(entries, True))
        if len(lost):
            missing = self._page_size * int(lost[0])
            raise _not_mapped(max(address, address - inside + missing))
        frames = self._frame(entries)
        begins = [0, *(np.flatnonzero(np.diff(frames) != self._page_size) + 1).tolist()]
        starts = [index * self._page_size - inside for index in begins]
        starts[0], runs = 0, []
        for index, start, end in zip(begins, starts, [*starts[1:], size]):
            phys = int(frames[index]) + (0 if index else inside)
            runs.append((phys, end - start, address + start))
        return runs

    def _region(self, address: int) -> _Table:
        """Return where the table of pages is that an address is looked up in."""
        now = self._clock()
        if now >= self._until:
            self._regions.clear()
            self._upper.clear()
            self._until = now + _KEPT_SECONDS
        number = address >> self._region_shift
        found = self._regions.get(number)
        if found is None:
            found = self._regions[number] = self._walk(address)
        return found

    def _walk(self, address: int) -> _Table:
        table = self._root
        if not any(low <= address <= high for low, high in self._windows):
            raise _not_mapped(address)
        for shift, size in self._levels:
            raw = self._upper.get(table)
            if raw is None:
                raw = self._upper[table] = self._physical(table, size, address)
            at = address >> shift << ENTRY_SHIFT & (size - 1)
            entry = int.from_bytes(raw[at : at + ENTRY_BYTES], self._order)
            if not self._present(entry, False):
                raise _not_mapped(address)
            if self._format.leaf(entry, shift):
                inside = ((1 << shift) - 1) & -self._region_size
                start = self._frame(entry) & -(1 << shift)
                return start + (address & inside), True
            table = self._format.table(entry)
        return table, False

    def _physical(self, phys: int, count: int, address: int) -> bytes:
        """Read physical memory that an address led to."""
        try:
            return self._read(phys, count, True)
        except FaultError as e:
            raise _no_ram(e, address + max(e.address - phys, 0)) from e


def _no_ram(error: FaultError, address: int) -> FaultError:
    why = f"it leads to {error.address:#x}, which is no RAM that can be read"
    return FaultError(why, address)


def _not_mapped(address: int) -> FaultError:
    return FaultError("nothing is mapped there", address)
