# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Space
-----

Where vmalloc space lies, what it is used for and what is left of it.
"""

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from .areas import Area, Problem, State

__all__ = (
    "VmallocRange",
    "Space",
    "LazyPages",
    "Gap",
    "SizeClass",
    "Gaps",
    "Request",
    "InTheWay",
    "Fit",
)


@dataclass(frozen=True)
class VmallocRange:
    """Where vmalloc space lies."""

    start: int
    end: int
    """First address behind it."""
    limit: int
    """VMALLOC_END, beyond which no area may end. On x86 it is the last byte of the
    range, so that its last page is never used."""


@dataclass(frozen=True, order=True)
class Gap:
    """A free range of addresses."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class Space:
    """Where the kernel looks for addresses."""

    whole: VmallocRange
    ranges: Tuple[VmallocRange, ...]
    """It looks in the next one only if there is no room in those before it."""
    cached: Tuple[Gap, ...] = ()
    """What it keeps for the next code, in areas that are in use."""
    problems: Tuple[Problem, ...] = ()


@dataclass(frozen=True)
class LazyPages:
    """Pages of addresses that were freed but are not yet purged."""

    counted: int
    """What the kernel counted, vmap_lazy_nr."""
    maximum: int
    """The kernel starts a purge when more than these wait."""


@dataclass(frozen=True)
class SizeClass:
    """Gaps of about the same size: at least ``size``, less than twice that."""

    size: int
    gaps: int
    bytes: int


@dataclass(frozen=True)
class Gaps:
    """What vmalloc space is used for, and what is left of it."""

    space: VmallocRange
    bytes: Mapping[State, int]
    """Bytes of vmalloc space in each state."""
    ranges: Mapping[State, int]
    """How many ranges these are."""
    outside_bytes: int
    """Bytes of busy areas outside of vmalloc space, such as modules."""
    largest: Optional[Gap]
    histogram: Tuple[SizeClass, ...]
    lazy: Optional[LazyPages]
    """None if only a text is known."""
    lazy_pages: int
    """Pages of areas that wait to be purged, or that are being purged."""
    left_out: int = 0
    """Lines of a text that were not understood: what seems free there may not be."""
    cached: Tuple[Gap, ...] = ()
    """What is free for code, although it lies in areas that are in use."""

    @property
    def total(self) -> int:
        """Bytes of vmalloc space."""
        return self.space.end - self.space.start

    @property
    def unaccounted(self) -> int:
        """Bytes that no area was found for: on their way between two states."""
        return self.total - sum(self.bytes.values())


@dataclass(frozen=True)
class InTheWay:
    """The place with the least in use that would have been large enough."""

    place: Gap
    areas: Tuple[Area, ...]
    """Areas in use there, the largest ones first."""
    bytes: int
    """Bytes of the place that are in use."""


@dataclass(frozen=True)
class Request:
    """What an allocation asks for."""

    size: int
    """Bytes asked for."""
    align: int
    """A power of two."""
    needed: int
    """Bytes of addresses that takes: whole pages, and a guard page."""
    searched: int
    """Bytes of a gap that the kernel's search cannot pass over."""


@dataclass(frozen=True)
class Fit:
    """Whether an allocation would succeed now."""

    request: Request
    where: Optional[int]
    """Address in free space that the kernel would choose; None if none is."""
    pools: Mapping[int, int]
    """Address that CPUs of a node would take from its pool instead, by node."""
    where_after_purge: Optional[int]
    """Lowest address if all that was freed lazily or pooled were free."""
    in_the_way: Optional[InTheWay]
    """If nothing helps. Nothing of it is in use if it is large enough, but less than
    what is searched for. None if it would not even fit into an empty space."""
    ram: Optional[int] = None
    """Bytes of RAM, which vmalloc() refuses to allocate more than; None if not known."""
    cached: Optional[int] = None
    """Address that code, and only code, gets instead: of what the kernel keeps for it."""

    @property
    def is_refused(self) -> bool:
        """Whether vmalloc() does not even look for addresses."""
        return self.ram is not None and self.request.size > self.ram

    @property
    def fits(self) -> bool:
        """Whether it succeeds without a purge, on some CPU at least."""
        return not self.is_refused and (self.where is not None or bool(self.pools))

    @property
    def fits_after_purge(self) -> bool:
        """Whether it succeeds at the latest after a purge."""
        if self.is_refused:
            return False
        return self.fits or self.where_after_purge is not None
