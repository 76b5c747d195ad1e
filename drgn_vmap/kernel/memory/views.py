# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Two views of memory
-------------------

What /proc/kcore returns for addresses of vmalloc space, or drgn itself, and what is there:
the page table, then physical memory. The latter never goes through drgn's own reads of
virtual memory, which on a live kernel are reads of /proc/kcore, unless they are direct.

Before Linux 6.4, read_kcore() copies a buffer that it keeps for each open file, and
vread() leaves it alone where it finds nothing to read: the reader then gets what was
read before. So kcore has a descriptor of its own here, and a *primer* is read first
where that is to be told: a page whose contents are like no other's.

Memory that is no RAM is never read: a device may take a read for a command.
"""

from typing import Dict, Iterator, List, Optional, Tuple, Union

from drgn import Program

from ..._numpy import Array, U64Array, np
from ...errors import TargetError
from ...model.areas import Problem
from ...model.kcore import Look
from ...model.translation import Translation
from ..doors import UNREADABLE
from .kcore import NOWHERE, Kcore
from .page_table import PageTable

__all__ = ("ThroughDrgn", "TwoViews")

_PRIMERS_AT_ONCE = 64
_PRIMED_AT_ONCE = 256
_TRIES = 3
_ZERO = np.uint64(0)


class ThroughDrgn:
    """What drgn itself returns, in place of /proc/kcore: there, offsets are addresses."""

    def __init__(self, prog: Program, page_size: int) -> None:
        self._prog = prog
        self._page_size = page_size

    def close(self) -> None:
        """Do nothing: the program is the user's."""

    def virtual_offsets(self, addresses: U64Array) -> Array:
        """Return where the pages at virtual addresses are."""
        return addresses.astype(np.int64)

    def read(self, offsets: Array, into: Array) -> Array:
        """Read pages in order; see :meth:`.kcore.Kcore.read`."""
        ok = offsets != NOWHERE
        for row in np.flatnonzero(ok).tolist():
            page = self.read_page(int(offsets[row]))
            ok[row] = page is not None
            if page is not None:
                into[row] = np.frombuffer(page, into.dtype)
        return ok

    def read_page(self, offset: int) -> Optional[bytes]:
        """Return the page at an offset, or None if it cannot be read."""
        try:
            return self._prog.read(offset % (1 << 64), self._page_size)
        except UNREADABLE:
            return None


class TwoViews:
    """
    Both views of a live kernel: a context manager that closes its files.

    :param through: What to compare with memory; /proc/kcore if it is not said.
    :param table: The kernel's page table; what was read of it is forgotten each time.
    :param page_size: Bytes of a page.
    :param primers: Addresses of pages that vmalloc() or vmap() mapped, some of which
        become primers.
    :raises TargetError: if /proc/kcore cannot be read.
    """

    def __init__(
        self,
        table: PageTable,
        page_size: int,
        primers: U64Array,
        through: Optional[ThroughDrgn] = None,
    ) -> None:
        self._page_size = page_size
        self._words = page_size // 8
        self._table = table
        self._problems: Dict[Problem, None] = {}
        self._candidates = primers
        self._primers: List[int] = []
        self._kcore: Union[Kcore, ThroughDrgn] = through or Kcore(page_size)
        try:
            self._ram = Kcore(page_size)
        except TargetError:
            self._kcore.close()
            raise

    def __enter__(self) -> "TwoViews":
        return self

    def __exit__(self, *_: object) -> None:
        self._kcore.close()
        self._ram.close()

    @property
    def problems(self) -> Tuple[Problem, ...]:
        """What of the page table could not be read."""
        return tuple(self._problems)

    def look(self, addresses: U64Array, untouched: Array) -> Look:
        """
        Read pages in both views, in this order: page table, memory, kcore; and where
        these differ, memory and page table again. What was read before a page through
        kcore is the page in the row before, and a primer before the first.

        :param addresses: Of pages.
        :param untouched: Pages whose memory kcore does not read; memory that is no
            RAM is looked at through kcore only there.
        """
        return self._look(addresses, untouched, None)

    def look_primed(self, addresses: U64Array, untouched: Array, unlike: Array) -> Look:
        """
        Read pages in both views, with a primer before each of them.

        :param unlike: For each page what its primer must not hold: a row of words.
        """
        return self._look(addresses, untouched, unlike)

    def memory(self, addresses: U64Array) -> Tuple[Array, Array]:
        """Return what memory holds, a row of words a page, and which could be read."""
        return self._memory(self._translate(addresses))

    def _look(
        self, addresses: U64Array, untouched: Array, unlike: "Array | None"
    ) -> Look:
        before = self._translate(addresses)
        memory, has_memory = self._memory(before)
        harmless = before.known & (~before.present | has_memory) | untouched
        offsets = self._kcore.virtual_offsets(addresses)
        offsets[~harmless] = NOWHERE
        if unlike is None:
            kcore, read, repeated = self._read_in_order(offsets)
        else:
            kcore, read, repeated = self._read_primed(offsets, unlike)
        look = Look(
            mapped=before.present,
            known=before.known,
            in_memory=has_memory,
            read=read,
            steady=np.ones(len(addresses), bool),
            equal=has_memory & _same(kcore, memory),
            zero=_same(kcore, _ZERO),
            memory_zero=has_memory & _same(memory, _ZERO),
            repeated=repeated,
            kcore=kcore,
        )
        # What came back as memory held it is right, whatever happened since.
        rows = np.flatnonzero(~look.equal)
        if len(rows):
            self._look_back(
                look, rows, addresses[rows], before.take(rows), memory[rows]
            )
        return look

    def _look_back(
        self,
        look: Look,
        rows: Array,
        addresses: U64Array,
        before: Translation,
        memory: Array,
    ) -> None:
        """Note down of some pages whether they changed while kcore was read."""
        now, has_memory = self._memory(before)
        after = self._translate(addresses)
        same = (before.phys == after.phys) & (before.present == after.present)
        has_memory &= look.in_memory[rows]
        look.known[rows] &= after.known
        look.in_memory[rows] = has_memory
        look.memory_zero[rows] &= has_memory
        look.steady[rows] = same & (_same(memory, now) | ~has_memory)
        look.equal[rows] = has_memory & same & _same(look.kcore[rows], now)

    def _translate(self, addresses: U64Array) -> Translation:
        self._table.forget()
        found = self._table.translate(addresses)
        self._problems.update(dict.fromkeys(found.problems))
        return found

    def _memory(self, where: Translation) -> Tuple[Array, Array]:
        offsets = np.where(
            where.present & where.known, self._ram.ram_offsets(where.phys), NOWHERE
        )
        return self._read(self._ram, offsets)

    def _read(
        self, file: Union[Kcore, ThroughDrgn], offsets: Array
    ) -> Tuple[Array, Array]:
        """Read pages of a file; return a row of words a page, and which could be read."""
        rows: Array = np.empty((len(offsets), self._words), np.uint64)
        read = file.read(offsets, rows)
        rows[~read] = 0
        return rows, read

    def _read_in_order(self, offsets: Array) -> Tuple[Array, Array, Array]:
        """
        Read pages through kcore, a primer before the first.

        :return: A row of words a page, which pages could be read, and which of them hold
            what the one before does.
        """
        primer = self._prime()
        rows, read = self._read(self._kcore, offsets)
        repeated = np.zeros(len(offsets), bool)
        got = rows if read.all() else rows[read]
        if len(got):
            same_as_before = _same(got[1:], got[:-1])
            repeated[read] = np.append(got[0].tobytes() == primer, same_as_before)
        return rows, read, repeated

    def _read_primed(self, offsets: Array, unlike: Array) -> Tuple[Array, Array, Array]:
        """
        Read pages through kcore, a primer before each.

        :return: A row of words a page, which pages could be read, and which of them hold
            what their primers do.
        """
        rows: Array = np.zeros((len(offsets), self._words), np.uint64)
        read = np.zeros(len(offsets), bool)
        repeated = np.zeros(len(offsets), bool)
        wanted = np.flatnonzero(offsets != NOWHERE)
        for at in range(0, len(wanted), _PRIMED_AT_ONCE):
            some = wanted[at : at + _PRIMED_AT_ONCE]
            primers, pages, there = self._read_pairs(offsets[some], unlike[some])
            rows[some], read[some] = pages, there
            repeated[some] = there & _same(pages, primers)
        return rows, read, repeated

    def _read_pairs(self, offsets: Array, unlike: Array) -> Tuple[Array, Array, Array]:
        """
        Read a primer and a page in turn through kcore.

        :return: The primers, the pages, and which pages could be read.
        """
        for _ in range(_TRIES):
            first = np.frombuffer(self._prime(), np.uint64)
            pairs = np.empty((len(offsets), 2), np.int64)
            pairs[:, 0] = self._primers[0]
            pairs[_same(unlike, first), 0] = self._primers[-1]
            pairs[:, 1] = offsets
            rows, read = self._read(self._kcore, pairs.reshape(-1))
            primers, pages = rows[0::2], rows[1::2]
            unfit = _same(primers, _ZERO) | _same(primers, unlike)
            if not unfit.any():
                return primers, pages, read[1::2]
            # One may have been freed meanwhile.
            self._primers = []
        raise self._no_primer()

    def _prime(self) -> bytes:
        """Read a primer through kcore, and return its bytes."""
        for _ in range(_TRIES):
            for offset in self._primers:
                page = self._kcore.read_page(offset)
                # It may have been freed meanwhile.
                if page and page.strip(b"\0"):
                    return page
            self._primers = list(self._find_primers())
        raise self._no_primer()

    def _no_primer(self) -> TargetError:
        return TargetError(
            "no page of vmalloc space can be read to compare others with: "
            "is this /proc/kcore of the running kernel?"
        )

    def _find_primers(self) -> Iterator[int]:
        """Yield the places in kcore of two pages that differ and are not all zeros."""
        found: List[bytes] = []
        for at in range(0, len(self._candidates), _PRIMERS_AT_ONCE):
            addresses = self._candidates[at : at + _PRIMERS_AT_ONCE]
            rows, ok = self.memory(addresses)
            offsets = self._kcore.virtual_offsets(addresses)
            for row in np.flatnonzero(ok & rows.any(axis=1) & (offsets != NOWHERE)):
                page = self._kcore.read_page(int(offsets[row]))
                if page and page == rows[row].tobytes() and page not in found:
                    found.append(page)
                    yield int(offsets[row])
                if len(found) == 2:
                    return


def _same(rows: Array, others: "Array | np.uint64") -> Array:
    """Return which rows equal the others; of most that don't, the first word tells."""
    others = np.broadcast_to(others, rows.shape)
    same: Array = rows[:, 0] == others[:, 0]
    at = np.flatnonzero(same)
    if len(at) > len(rows) // 2:
        # Copying them out would take longer than it saves.
        same = (rows == others).all(axis=1)
    else:
        same[at] = (rows[at] == others[at]).all(axis=1)
    return same
