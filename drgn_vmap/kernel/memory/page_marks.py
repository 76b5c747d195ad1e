# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Marks of pages
--------------

How this kernel marks in a ``struct page`` what the page is used for.
"""

from typing import Mapping

from drgn import Program

from ..._numpy import Array, Record, U64Array, np
from ...errors import TargetError
from ...model.mem_usage import PageClass
from ..types.structs import (
    array_length,
    has_member,
    member_offset,
    record_dtype,
    type_size,
)

__all__ = ("PageMarks",)

_ANON = 1
"""PAGE_MAPPING_ANON, later FOLIO_MAPPING_ANON, of include/linux/page-flags.h."""
_WORD_BITS = 64
_NEEDED = ("PG_lru", "PG_private", "PG_swapcache", "PAGE_BUDDY_MAPCOUNT_VALUE")


class PageMarks:
    """
    The marks of a kernel.

    The values of flags and types are those that VMCOREINFO tells to makedumpfile
    (Documentation/admin-guide/kdump/vmcoreinfo.rst), as is the order of precedence.

    :param numbers: Those of VMCOREINFO.
    :raises TargetError: if it lacks what all kernels have that can be read.
    :raises SymbolsError: if struct page is not known.
    """

    def __init__(self, prog: Program, numbers: Mapping[str, int]) -> None:
        self._numbers = numbers
        for needed in _NEEDED:
            if needed not in numbers:
                raise TargetError(f"VMCOREINFO has no {needed}, which this needs")
        self.record = _page_record(prog)
        """The dtype of a struct page, with what is needed of it."""
        self.orders = array_length(prog, "struct zone", "free_area")
        """Free blocks are of orders below this one, and it stands in ``private``."""
        size = type_size(prog, "struct page") or 0
        # Since commit 8c846c879e22 ("mm: rework compound_head() for power-of-2
        # sizeof(struct page)") (in v7.1), it may be a mask that leads to the head; then
        # zones have the struct pages that tails of hugetlbfs share.
        shared = has_member(prog, "struct zone", "vmemmap_tails")
        self._is_mask = shared and size & (size - 1) == 0

    def classes(self, records: Array) -> Array:
        """
        Return the class of each page that is no tail; all zeros are none yet.

        :param records: Of adjacent pages.
        """
        cache = self._flag(records, "PG_lru")
        cache |= self._flag(records, "PG_swapbacked") & self._flag(
            records, "PG_swapcache"
        )
        # Since commit 130d4df57390 ("mm/sl[au]b: rearrange struct slab fields to allow
        # larger rcu_head") (in v6.2), slabs have numbers where others have the mapping.
        slab = self._is_slab(records)
        anon = (records["mapping"] & np.uint64(_ANON) != 0) & ~slab
        private = self._flag(records, "PG_private")
        rules = (
            (self._is_type(records, "BUDDY") & ~slab, PageClass.FREE),
            (cache & ~anon & ~private, PageClass.NON_PRI_CACHE),
            (cache & ~anon, PageClass.PRI_CACHE),
            (anon | self._is_hugetlb(records), PageClass.USER),
            (self._flag(records, "PG_hwpoison"), PageClass.LEFT_OUT),
            (self._is_type(records, "OFFLINE") & ~slab, PageClass.LEFT_OUT),
        )
        conditions, classes = zip(*rules)
        return np.select(conditions, classes, PageClass.KERN_DATA).astype(np.uint8)

    def is_tail(self, records: Array) -> Array:
        """Return which pages are tails of compound pages."""
        return records["compound"] & np.uint64(1) != 0

    def heads(self, tails: U64Array, records: Array) -> U64Array:
        """Return the head of each tail: the address of its struct page."""
        pointers = records["compound"].astype(np.uint64)
        return tails & pointers if self._is_mask else pointers - np.uint64(1)

    def _flag(self, records: Array, name: str) -> Array:
        """Return which pages have a flag; none has one that this kernel lacks."""
        bit = self._numbers.get(name, _WORD_BITS)
        return self._any_bit(records, 1 << bit if 0 <= bit < _WORD_BITS else 0)

    def _any_bit(self, records: Array, mask: int) -> Array:
        return records["flags"] & np.uint64(mask % (1 << _WORD_BITS)) != 0

    def _is_type(self, records: Array, name: str) -> Array:
        """Return which pages are of a type, which stands in place of _mapcount."""
        number = self._numbers.get(f"PAGE_{name}_MAPCOUNT_VALUE")
        if number is None:
            return np.zeros(len(records), bool)
        return records["type"].astype(np.int64) & 0xFFFFFFFF == number & 0xFFFFFFFF

    def _is_slab(self, records: Array) -> Array:
        # Since commit 46df8e73a4a3 ("mm: free up PG_slab") (in v6.10), it is a type.
        return self._is_type(records, "SLAB") | self._flag(records, "PG_slab")

    def _is_hugetlb(self, records: Array) -> Array:
        """Return which pages are heads of hugetlbfs."""
        if not len(records):
            return np.zeros(0, bool)
        # Since commit d99e3140a4d3 ("mm: turn folio_test_hugetlb into a PageType") (in
        # v6.9), it is a type.
        if "PAGE_HUGETLB_MAPCOUNT_VALUE" in self._numbers:
            return self._is_type(records, "HUGETLB")
        is_head = self._any_bit(records, self._numbers.get("PG_head_mask", 0))
        # The last one is no head: heads are aligned.
        follows = records[np.minimum(np.arange(1, len(records) + 1), len(records) - 1)]
        # Since commit 9c5ccf2db04b ("mm: remove HUGETLB_PAGE_DTOR") (in v6.6), it is a
        # flag of the page behind the head.
        if "PG_hugetlb" in self._numbers:
            return is_head & self._flag(follows, "PG_hugetlb")
        dtor = self._numbers.get("HUGETLB_PAGE_DTOR")
        if dtor is None or "dtor" not in (records.dtype.names or ()):
            return np.zeros(len(records), bool)
        return is_head & (follows["dtor"] == dtor)


def _page_record(prog: Program) -> Record:
    # Since commit d50569612c29 ("mm: rename the 'compound_head' field in the 'struct
    # page' to 'compound_info'") (in v7.1).
    renamed = has_member(prog, "struct page", "compound_info")
    members = {name: name for name in ("flags", "mapping", "private")}
    members["type"] = "_mapcount"
    members["compound"] = "compound_info" if renamed else "compound_head"
    # Of the page behind a head: what the compound page is.
    members["dtor"] = "compound_dtor"
    record = record_dtype(prog, "struct page", members, optional=("dtor",))
    # Since commit 1c5509be58f6 ("mm: remove 'First tail page' members from struct page")
    # (in v6.3), struct folio names it, which begins with the head.
    dtor = member_offset(prog, "struct folio", "_folio_dtor")
    if dtor is None or not record.itemsize <= dtor < 2 * record.itemsize:
        return record
    fields = dict(record.fields or {})
    fields["dtor"] = (np.dtype(np.uint8), dtor - record.itemsize)
    formats, offsets = zip(*(field[:2] for field in fields.values()))
    names, size = list(fields), record.itemsize
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
    )
