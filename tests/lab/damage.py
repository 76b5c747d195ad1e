# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Damage to a vmcore: words of it changed in the eyes of one Program, and changed back.

The vmcore itself stays as it is. A page that is to be changed is laid over it as a
memory segment of the Program.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from drgn import Object, Program
from drgn.helpers.linux.mm import follow_phys

__all__ = ("DamagedVmcore",)


class DamagedVmcore:
    """A vmcore whose words can be changed for a while."""

    def __init__(self, vmcore: Path, vmlinux: Path) -> None:
        self.prog = Program()
        self.prog.set_core_dump(vmcore)
        self.prog.load_debug_info([vmlinux])
        self._page_size = int(self.prog["PAGE_SIZE"].value_())
        self._pages: dict[int, bytearray] = {}

    @contextmanager
    def changed(self, changes: dict[int, int]) -> Iterator[None]:
        """Have other words at these addresses within a ``with`` block."""
        before = {address: self.prog.read_word(address) for address in changes}
        self._write(changes)
        try:
            yield
        finally:
            self._write(before)

    def address_of(self, member: Object) -> int:
        """Return the address of a struct's member."""
        assert member.address_ is not None
        return member.address_

    def _write(self, words: dict[int, int]) -> None:
        for address, word in words.items():
            mm = self.prog["init_mm"].address_of_()
            phys = follow_phys(mm, address).value_()
            offset = phys % self._page_size
            page = self._page(phys - offset)
            page[offset : offset + 8] = (word & (1 << 64) - 1).to_bytes(8, "little")
            assert self.prog.read_word(address) == word & (1 << 64) - 1

    def _page(self, phys: int) -> bytearray:
        """Return the page that is laid over the vmcore's."""
        if phys not in self._pages:
            data = bytearray(self.prog.read(phys, self._page_size, physical=True))

            def read(address: int, count: int, offset: int, physical: bool) -> bytes:
                return bytes(data[offset : offset + count])

            self.prog.add_memory_segment(phys, self._page_size, read, physical=True)
            self._pages[phys] = data
        return self._pages[phys]
