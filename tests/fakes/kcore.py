# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Both views of a kernel that is made by hand: pages by address, and a /proc/kcore whose
reader does what a test says, with the buffer that old kernels keep for an open file.
"""

from __future__ import annotations

from typing import Callable

from drgn_vmap._numpy import Array, U64Array, np
from drgn_vmap.model.kcore import Look

__all__ = ("FakeViews", "page")

WORDS = 512
PRIMERS = (bytes([1] * 4096), bytes([2] * 4096))


def page(number: int) -> bytes:
    """Return a page like no other."""
    return number.to_bytes(8, "little") * WORDS


class FakeViews:
    """
    :param pages: What memory holds, by address; other addresses are not mapped.
    :param reader: What kcore returns for an address; None leaves its buffer alone.
    """

    def __init__(
        self, pages: dict[int, bytes], reader: Callable[[int], bytes | None]
    ) -> None:
        self.pages = pages
        self.reader = reader
        self.no_ram: set[int] = set()
        """Addresses whose memory is a device's."""
        self.looks = 0
        self.touched: list[int] = []
        """Addresses read through kcore."""
        self.on_read: Callable[[int], None] = lambda address: None
        """Is called amidst each look at a page."""
        self._buffer = b"\xff" * 4096

    def look(self, addresses: U64Array, untouched: Array) -> Look:
        """Look at pages, one after the other."""
        self._buffer = PRIMERS[0]
        return self._look(addresses, untouched, None)

    def look_primed(self, addresses: U64Array, untouched: Array, unlike: Array) -> Look:
        """Look at pages, with a primer before each."""
        return self._look(addresses, untouched, unlike)

    def memory(self, addresses: U64Array) -> tuple[Array, Array]:
        """Return what memory holds, and where there is any."""
        held = [self.pages.get(at) for at in addresses.tolist()]
        rows = b"".join(one or bytes(4096) for one in held)
        known = [one is not None for one in held]
        return np.frombuffer(rows, np.uint64).reshape(-1, WORDS), np.array(known)

    def _look(
        self, addresses: U64Array, untouched: Array, unlike: Array | None
    ) -> Look:
        self.looks += 1
        rows: list[tuple[bool, ...]] = []
        kcore = []
        for row, (address, skip) in enumerate(zip(addresses.tolist(), untouched)):
            if unlike is not None:
                other = PRIMERS[0] == unlike[row].tobytes()
                self._buffer = PRIMERS[1] if other else PRIMERS[0]
            before, previous = self.pages.get(address), self._buffer
            in_memory = before is not None and address not in self.no_ram
            read = bool(skip) or before is None or in_memory
            self.on_read(address)
            if read:
                self.touched.append(address)
                self._buffer = self.reader(address) or self._buffer
            after = self.pages.get(address)
            got = self._buffer if read else bytes(4096)
            equal = in_memory and after is not None and got in (before, after)
            rows.append(
                (
                    before is not None,
                    in_memory,
                    read,
                    before == after,
                    equal,
                    not any(got),
                    in_memory and not any(before or b""),
                    read and got == previous,
                )
            )
            kcore.append(got)
        mapped, in_memory_, read_, steady, equal_, zero, memory_zero, repeated = (
            np.array(column, bool) for column in zip(*rows)
        )
        return Look(
            mapped=mapped,
            known=np.ones(len(rows), bool),
            in_memory=in_memory_,
            read=read_,
            steady=steady,
            equal=equal_,
            zero=zero,
            memory_zero=memory_zero,
            repeated=repeated,
            kcore=np.frombuffer(b"".join(kcore), np.uint64).reshape(-1, WORDS),
        )
