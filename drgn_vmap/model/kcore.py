# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
kcore
-----

What /proc/kcore returns, beside what memory holds.
"""

import enum
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from .._numpy import Array
from .areas import Kernel, Problem

__all__ = (
    "KcoreRules",
    "Look",
    "PageClass",
    "Reader",
    "PageFinding",
    "CheckedArea",
    "KcoreCheck",
    "Returned",
    "KcoreAnswer",
)


@dataclass(frozen=True)
class KcoreRules:
    """How this kernel's /proc/kcore reads vmalloc space (vread(), vread_iter())."""

    reads_ram: bool
    """It reads what vm_map_ram() mapped (series patch 3), and nothing of areas with
    VM_UNINITIALIZED (series patch 5)."""
    zeroes_holes: bool
    """Where no area is, it returns zeros, not what its buffer held before."""
    mixes_up_blocks: bool
    """Of a page of a vmap_block, it returns the block's first used page."""
    readable_from: int = 0
    """Lower addresses are at no offset in the file that can be read."""


@dataclass(frozen=True)
class Look:
    """
    Some pages in two views, what /proc/kcore returns and what memory holds: a row a
    page.
    """

    mapped: Array
    """The page table leads somewhere."""
    known: Array
    """The page table could be read."""
    in_memory: Array
    """Memory is there, and could be read."""
    read: Array
    """kcore could be read."""
    steady: Array
    """Before and after, the page table led to the same place, which held the same. Not
    looked at, and true, where kcore returned what memory held before."""
    equal: Array
    """kcore returned what memory held before, or after."""
    zero: Array
    """kcore returned nothing but zeros."""
    memory_zero: Array
    """Memory holds nothing but zeros."""
    repeated: Array
    """kcore returned the bytes that had been read from it just before."""
    kcore: Array
    """What kcore returned: a row of words a page."""


class Reader(enum.Enum):
    """Who returns what is compared with memory."""

    KCORE = "kcore"
    """/proc/kcore, the file."""
    DRGN = "drgn"
    """drgn, which reads that file unless its reads are direct."""


class PageClass(enum.IntEnum):
    """How what /proc/kcore returned for a page compares with memory."""

    EQUAL = 0
    ZERO = 1
    """Zeros, but memory holds data."""
    WRONG = 2
    """Other bytes."""
    STALE = 3
    """The bytes that were read before, whatever these were."""
    UNMAPPED_WRONG = 4
    """Bytes, but there is no page."""
    BY_DESIGN = 5
    """Zeros, as the kernel means to return there."""
    UNMAPPED_ZERO = 6
    """Zeros, and there is no page."""
    RACED = 7
    """Page or contents changed, however often it was read."""
    UNREADABLE = 8
    UNMAPPED_FAULT = 9
    """There is no page, and reading it is an error, as it should be."""

    @property
    def label(self) -> str:
        """Name in JSON and tables."""
        return self.name.lower().replace("_", "-")

    @property
    def is_bad(self) -> bool:
        """Whether kcore did not return what it should."""
        return PageClass.ZERO <= self <= PageClass.UNMAPPED_WRONG


@dataclass(frozen=True)
class PageFinding:
    """A page that kcore did not return as memory holds it."""

    page: int
    """Its index in the area."""
    page_class: PageClass
    same_as_page: Optional[int] = None
    """Index of the page of the area that holds the bytes, the first if several do."""


@dataclass(frozen=True)
class CheckedArea:
    """An area of which pages were read in two views."""

    start: int
    end: int
    kinds: Tuple[str, ...]
    pages: Mapping[PageClass, int]
    """How many pages are of each class; a class without any is absent."""
    blank: int
    """Equal pages that hold nothing but zeros, and so prove nothing."""
    lost: int
    """Pages of memory for which kcore returned zeros or stale bytes."""
    findings: Tuple[PageFinding, ...]
    """In the order of pages."""
    findings_left_out: int
    """How many more there are."""


@dataclass(frozen=True)
class KcoreCheck:
    """What comparing /proc/kcore with memory found."""

    kernel: Kernel
    rules: KcoreRules
    areas: Tuple[CheckedArea, ...]
    """By ascending address."""
    totals: Mapping[str, Mapping[PageClass, int]]
    """Pages of each class by kind of area."""
    verdict: Mapping[str, str]
    """Of ``vmalloc``, ``vm_map_ram`` and ``vmap_block``: the worst that was found,
    ``wrong``, ``zero`` or ``equal``; ``none-found`` if there is no such area, or
    of none a page could be read."""
    pages: int
    """Pages that were read."""
    all_pages: int
    """Pages that the areas have, guard pages only if they are read too."""
    sample_pages: Optional[int]
    """Pages that were read at most of an area that vm_map_ram() did not make; None if
    all were."""
    problems: Tuple[Problem, ...] = ()
    through: Reader = Reader.KCORE

    @property
    def found_bad(self) -> bool:
        """Whether kcore did not return what it should, for any page."""
        return any(c.is_bad for area in self.areas for c in area.pages)


class Returned(enum.Enum):
    """What /proc/kcore is to return for a page."""

    DATA = "data"
    """What the page holds."""
    ZEROS = "zeros"
    OTHER_PAGE = "other-page"
    """What another page of the same block holds."""
    UNDEFINED = "undefined"
    """What comes cannot be told."""


@dataclass(frozen=True)
class KcoreAnswer:
    """What /proc/kcore is to return for a page, and why."""

    returns: Returned
    why: str
    page: Optional[int] = None
    """Whose bytes come instead: the index of a page of the same block."""
