# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Sums
----

Who holds how much, beside the kernel's own count.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Optional, Tuple

__all__ = (
    "Growth",
    "JitMemory",
    "OwnerSums",
    "PageCounter",
    "PercpuMemory",
    "Sum",
    "Top",
    "Reconciliation",
)


@dataclass(frozen=True)
class PageCounter:
    """The kernel's own count of pages that vmalloc allocated."""

    name: str
    """Of the variable or enumerator in the kernel."""
    pages: int
    """What /proc/meminfo shows as VmallocUsed, in kB there."""
    pending_pages: int
    """What CPUs have counted by themselves and not yet added; may be negative."""
    uncounted_vm: int = 0
    """Address of a vm_struct with VM_ALLOC whose pages it leaves out, 0 if none is."""


@dataclass(frozen=True)
class PercpuMemory:
    """Pages of per-CPU memory, of all CPUs together."""

    counted_pages: int
    """What /proc/meminfo shows as Percpu, in kB there."""
    found_pages: int
    """Those of the kernel image's variables and of all chunks."""

    @property
    def verdict(self) -> str:
        """``equal`` or ``differs``."""
        return "equal" if self.counted_pages == self.found_pages else "differs"


@dataclass(frozen=True)
class JitMemory:
    """Memory of compiled BPF programs."""

    bytes: int
    """What the kernel counts."""
    limit: int
    """Of programs of users without privileges (net.core.bpf_jit_limit)."""


@dataclass(frozen=True)
class OwnerSums:
    """What some owners have in all, not only in areas; None if it is not known."""

    percpu: Optional[PercpuMemory]
    jit: Optional[JitMemory]


@dataclass(frozen=True)
class Sum:
    """What areas with the same key hold together."""

    key: str
    areas: int
    bytes: int
    pages: int
    """Pages in vm_struct.pages."""


@dataclass(frozen=True)
class Top:
    """Sums of busy areas by key, largest first, and the sum of all."""

    by: str
    rows: Tuple[Sum, ...]
    """The largest, if not all."""
    total: Sum
    more: int = 0
    """How many others there are."""
    more_bytes: int = 0
    left_out: int = 0
    """Lines of a text that were not understood, so that they are in no sum."""

    def share(self, row: Sum) -> float:
        """Return a row's part of the bytes of all rows, 0 to 1."""
        return row.bytes / self._bytes

    @cached_property
    def _bytes(self) -> int:
        return sum(row.bytes for row in self.rows) + self.more_bytes or 1


@dataclass(frozen=True)
class Growth:
    """What became more or less since a moment."""

    by: str
    rows: Tuple[Sum, ...]
    """What differs by key, the largest growth first; numbers may be negative."""
    total: Sum
    """What differs in all."""


@dataclass(frozen=True)
class Reconciliation:
    """The pages that areas have, beside the kernel's counter of them."""

    summed_pages: int
    """Pages of all areas whose pages the kernel counts."""
    counter: Optional[PageCounter]
    address_pages: Optional[int] = None
    """Pages of addresses that all areas take, which is what VmallocUsed was before 4.4;
    None if it is known to count pages."""

    @property
    def difference_pages(self) -> int:
        """Pages that the kernel counts, less those that were found."""
        if self.counter is None:
            return 0
        counted = self.counter.pages + self.counter.pending_pages
        return counted - self.summed_pages

    @property
    def may_be_too_low(self) -> bool:
        """Whether the kernel counts less than there is, as healthy ones may."""
        # Until Linux kernel commit a2e740e216f5 ("vmalloc: fix accounting with i915")
        # (in v6.13, also in v5.10.y, v6.1.y and v6.12.y), vfree() took off pages that
        # vmap() had been given to keep and that were never added. Nothing tells.
        if self.counter is None or self.counter.name != "nr_vmalloc_pages":
            return False
        return self.difference_pages < 0

    @property
    def verdict(self) -> str:
        """``equal``, ``differs`` or ``no counter``; ``equal addresses`` if all areas'
        addresses are what is counted."""
        if self.counter is None:
            return "no counter"
        if self.difference_pages and self.counter.pages == self.address_pages:
            return "equal addresses"
        return "differs" if self.difference_pages else "equal"
