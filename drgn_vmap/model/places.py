# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Places
------

What is at an address.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

from .areas import Area
from .blocks import PageState
from .kcore import KcoreAnswer

__all__ = (
    "Region",
    "Spot",
    "Place",
)


@dataclass(frozen=True)
class Region:
    """A part of the address space."""

    name: str
    start: int
    end: int
    is_vmalloc: bool = False
    """It is where areas are made."""

    def holds(self, address: int) -> bool:
        """Return whether an address is in it."""
        return self.start <= address < self.end


@dataclass(frozen=True)
class Spot:
    """An address that was asked for: a virtual one, ``phys:`` or ``page:``."""

    asked: str
    virtual: Tuple[int, ...]
    """Where it is in virtual memory; for a physical page where areas map it."""
    phys: Optional[int] = None
    """The physical address that was asked for."""
    no_page: str = ""
    """Why there is no RAM or no struct page; empty if there is, or nothing tells."""


@dataclass(frozen=True)
class Place:
    """What is at an address."""

    asked: str
    address: Optional[int]
    """None if no area maps the physical address that was asked for."""
    phys: Optional[int] = None
    """None if nothing is mapped there, or if that is not known."""
    phys_known: bool = True
    by_vm_struct: bool = False
    """The area's vm_struct told the physical address, as the page table could not."""
    area: Optional[Area] = None
    """The area that it lies in."""
    page: Optional[int] = None
    """Index of the page in the area."""
    is_guard: bool = False
    """The kernel takes the page for the area's guard. Areas for per-CPU memory have
    none, and their last page is taken for it all the same."""
    block_page: Optional[PageState] = None
    """What the page is in its vmap_block."""
    vb: Optional[int] = None
    """Address of the struct vmap_block."""
    kcore: Optional[KcoreAnswer] = None
    """None outside of what areas are made in."""
    region: Optional[Region] = None
    """What it is outside of vmalloc space, where no area is in use; None inside."""
    no_page: str = ""
    """Why the physical address has no RAM or no struct page."""
    below: Optional[Area] = None
    """The next area in use at lower addresses."""
    above: Optional[Area] = None
