# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Areas
-----

What a kernel's vmap areas are, and the kernel itself. Areas come by the hundred
thousand, so they are kept as columns (:class:`AreaTable`); a row of it is an
:class:`Area`.
"""

import enum
from dataclasses import dataclass, fields
from typing import Mapping, Optional, Sequence, Tuple

from .._numpy import Array, U64Array, np
from .owners import Owner

__all__ = (
    "VM_FLAGS",
    "VM_LABELS",
    "VMAP_RAM",
    "VMAP_BLOCK",
    "VM_LAZY_FREE",
    "VM_VM_AREA",
    "vm_flag",
    "State",
    "ProblemKind",
    "Problem",
    "VmallocinfoRules",
    "PointerPolicy",
    "Kernel",
    "Area",
    "AreaTable",
    "Snapshot",
)

# Preprocessor macros of include/linux/vmalloc.h have no debug info, so their values
# stand here. Bit 10 is left out: since Linux kernel commit 121e6f3258fe ("mm/vmalloc:
# hugepage vmalloc mappings") (in v5.13) it was VM_NO_HUGE_VMAP, and since commit
# 559089e0a93d ("vmalloc: replace VM_NO_HUGE_VMAP with VM_ALLOW_HUGE_VMAP") (in v5.18)
# it is its opposite.
VM_FLAGS: Mapping[str, int] = {
    "VM_IOREMAP": 0x1,
    "VM_ALLOC": 0x2,
    "VM_MAP": 0x4,
    "VM_USERMAP": 0x8,
    "VM_DMA_COHERENT": 0x10,
    "VM_UNINITIALIZED": 0x20,
    "VM_NO_GUARD": 0x40,
    "VM_KASAN": 0x80,
    "VM_FLUSH_RESET_PERMS": 0x100,
    "VM_MAP_PUT_PAGES": 0x200,
    "VM_DEFER_KMEMLEAK": 0x800,
    "VM_SPARSE": 0x1000,
}

VM_LABELS: Mapping[str, str] = {
    "ioremap": "VM_IOREMAP",
    "sparse": "VM_SPARSE",
    "vmalloc": "VM_ALLOC",
    "vmap": "VM_MAP",
    "user": "VM_USERMAP",
    "dma-coherent": "VM_DMA_COHERENT",
}
"""What /proc/vmallocinfo says of a flag, in the order that it is said in."""


# Macros of mm/vmalloc.c, since commit 869176a09606 ("mm/vmalloc.c: add flags to
# mark vm_map_ram area") (in v6.3).
VMAP_RAM = 0x1
VMAP_BLOCK = 0x2
# Those that stood there until commit 688fcbfc06e4 ("mm/vmalloc: modify struct vmap_area to
# reduce its size") (in v5.4).
VM_LAZY_FREE = 0x2
VM_VM_AREA = 0x4


def vm_flag(name: str) -> "np.uint64":
    """Return a ``VM_*`` flag as a number that mixes with ``vm_flags`` columns."""
    return np.uint64(VM_FLAGS[name])


class State(enum.IntEnum):
    """What a range of addresses is to the allocator."""

    BUSY = 0
    LAZY = 1
    PURGING = 2
    POOL = 3
    FREE = 4

    @property
    def label(self) -> str:
        """Name in JSON and tables."""
        return self.name.lower()


class ProblemKind(str, enum.Enum):
    """What kind of trouble a :class:`Problem` is; each is equal to its word."""

    UNREADABLE = "unreadable"
    """Memory that is not there, or what only the lost memory tells."""
    CORRUPT = "corrupt"
    """It contradicts itself, or something else."""
    RACING = "racing"
    """Either of these on a live kernel, which may have changed it meanwhile."""
    NAMELESS = "nameless"
    """An address stands where a name should."""
    UNSUPPORTED = "unsupported"
    """Nothing is damaged, but drgn cannot read it."""
    BOUNDED = "bounded"
    """So much is claimed that not all of it was looked at."""
    NOT_UNDERSTOOD = "not understood"
    """A line of a text that was left out."""
    REPEATED = "repeated"
    """A line of a text that was there before, and was counted once."""
    OVERLAPPING = "overlapping"
    """An area that has addresses of another one, which no two have at one moment."""
    MENDED = "mended"
    """What was done to a text to read it."""

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Problem:
    """Something that could not be read, or that contradicts itself."""

    what: ProblemKind
    where: str
    """Which structure, with its address."""
    detail: str
    """What was found, what was left out because of it."""

    @property
    def is_failure(self) -> bool:
        """Whether something is missing or wrong because of it."""
        return self.what not in (ProblemKind.RACING, ProblemKind.MENDED)


@dataclass(frozen=True)
class VmallocinfoRules:
    """How this kernel's own /proc/vmallocinfo is made (mm/vmalloc.c)."""

    per_node: bool
    """Areas are listed node by node, so not sorted by address."""
    ram_by_flag: bool
    """An area without vm is listed only if its flags have VMAP_RAM."""
    uninitialized_listed: bool
    """Areas with VM_UNINITIALIZED are listed (without N counts)."""
    lazy_by_flag: bool
    """Unpurged areas are listed among the others (before 5.4), and as areas of
    vm_map_ram() unless their flags have VM_LAZY_FREE."""
    lazy_after_vm_only: Optional[bool]
    """Unpurged areas are listed only if the last busy area has a vm; None if nothing
    tells (of some kernels before 5.18)."""
    sparse_label: bool
    """VM_SPARSE is known and labelled."""
    phys_digits: int
    """Hexadecimal digits of a phys_addr_t."""


@dataclass(frozen=True)
class PointerPolicy:
    """What /proc/vmallocinfo has of addresses on this kernel (lib/vsprintf.c)."""

    kptr_restrict: int
    """The sysctl: 0 hashes, 1 shows root the address, 2 shows zeros."""
    hash_pointers: bool
    """False after booting with no_hash_pointers."""
    key: Optional[bytes]
    """The 16 bytes of ptr_key, None while the kernel has not drawn them."""


LAYOUTS = {
    "before A": "one tree, freed areas among the others",
    "A": "one tree, purges from a lock-less list",
    "B": "one tree",
    "C": "one tree, areas with flags",
    "D": "one tree, blocks by CPU",
    "E": "areas in vmap nodes",
}
"""How a kernel keeps areas, by the name of the layout."""


@dataclass(frozen=True)
class Kernel:
    """The kernel a snapshot was taken from."""

    release: str
    layout: str
    """Layout generation, "before A" (before 5.4), "A" (before 5.11) to "E" (since
    6.9); "unknown" of a vmcore that lost its types."""
    live: bool
    symbols: str
    """Where types came from: "dwarf", "btf", or the name of another finder; "none" if they
    are lost."""
    page_size: int
    word_size: int
    """Size of a pointer."""
    has_va_flags: bool
    """struct vmap_area has flags that say VMAP_RAM (series patch 2)."""
    has_nodes: bool
    """Areas are split among struct vmap_node (since 6.9)."""
    numa_nodes: Tuple[int, ...]
    """Nodes that N counts can name; empty without CONFIG_NUMA."""
    rules: VmallocinfoRules


@dataclass(frozen=True)
class Area:
    """
    One range of addresses, as a row by itself.

    ``start`` and ``end`` are the struct vmap_area's; what does not apply is None.
    """

    start: int
    end: int
    state: State
    kinds: Tuple[str, ...]
    """Every kind that applies, see :mod:`drgn_vmap.analyses.kinds`."""
    vmap_node: Optional[int] = None
    """Index of the struct vmap_node that holds it."""
    va_flags: Optional[int] = None
    vm_flags: Optional[int] = None
    caller: Optional[str] = None
    """Text of %pS."""
    caller_addr: Optional[int] = None
    pages: Optional[int] = None
    """Number of pages in vm_struct.pages."""
    page_order: Optional[int] = None
    phys: Optional[int] = None
    numa: Optional[Mapping[int, int]] = None
    """Pages by NUMA node."""
    requested_size: Optional[int] = None
    owners: Tuple[Owner, ...] = ()
    """Who points at it, if that was looked for."""

    @property
    def size(self) -> int:
        """Bytes from start to end, guard page included."""
        return self.end - self.start


@dataclass(frozen=True)
class AreaTable:
    """
    Areas as columns of equal length.

    Columns that describe a vm_struct, from ``addr`` on, are zero where there is none or
    it could not be read (``vm_ok`` tells).
    """

    address: U64Array
    """Where the struct vmap_area is."""
    start: U64Array
    """vmap_area.va_start, the first address of the area."""
    end: U64Array
    """vmap_area.va_end, the first address behind it."""
    state: Array
    """A :class:`State`."""
    vmap_node: Array
    """Index of the struct vmap_node that holds the area, -1 if none does."""
    va_flags: U64Array
    """vmap_area.flags, zero on kernels that have none. Before 5.4 they are of
    VM_LAZY_FREE and VM_VM_AREA."""
    is_block: Array
    """Whether the area is that of a struct vmap_block."""
    vm: U64Array
    """Where the struct vm_struct is, zero for an area without one."""
    vm_ok: Array
    """Whether there is a vm_struct that could be read."""
    addr: U64Array
    """vm_struct.addr, which is the start but for a KASAN tag in the top byte."""
    vm_size: U64Array
    """vm_struct.size in bytes, guard page included."""
    flags: U64Array
    """vm_struct.flags, see :data:`VM_FLAGS`."""
    page_array: U64Array
    """vm_struct.pages, which is where the array of ``struct page *`` is."""
    nr_pages: U64Array
    """vm_struct.nr_pages, how many of them that array has."""
    page_order: U64Array
    """vm_struct.page_order: 1 << page_order of these pages belong together."""
    phys_addr: U64Array
    """vm_struct.phys_addr, which ioremap() mapped."""
    caller: U64Array
    """vm_struct.caller, an address of code; :attr:`Snapshot.callers` has its text."""
    requested_size: U64Array
    """vm_struct.requested_size in bytes, zero on kernels that have none."""
    vpages: Array
    """Whether the array of pages lies in vmalloc space itself."""
    numa_pages: Array
    """Pages by NUMA node: a row an area, a column for each of Kernel.numa_nodes."""
    owners: Array
    """Index into :attr:`Snapshot.owners`; zero unless owners were looked for."""

    def __len__(self) -> int:
        return len(self.start)

    def __repr__(self) -> str:
        return f"<AreaTable of {len(self)} areas>"

    def take(self, rows: Array) -> "AreaTable":
        """Return the table of the given rows (indices, or one bool each)."""
        return AreaTable(*(getattr(self, f.name)[rows] for f in fields(self)))

    @staticmethod
    def concatenate(tables: Sequence["AreaTable"]) -> "AreaTable":
        """Return the rows of all tables, in order; there is at least one table."""
        filled = [table for table in tables if len(table)] or tables[:1]
        if len(filled) == 1:
            return filled[0]
        return AreaTable(
            *(
                np.concatenate([getattr(table, f.name) for table in filled])
                for f in fields(AreaTable)
            )
        )


@dataclass(frozen=True)
class Snapshot:
    """The vmalloc state of a kernel at one moment."""

    kernel: Kernel
    areas: AreaTable
    """Busy areas as the kernel orders them, then those of other states."""
    callers: Mapping[int, str]
    """Text of %pS by address, for each caller in ``areas``."""
    problems: Tuple[Problem, ...] = ()
    labels: Tuple[str, ...] = ()
    """Of a vendor's kernel, as its /proc/vmallocinfo says: the first is bit 32 of
    ``areas.flags``, where Linux has none."""
    owners: Tuple[Tuple[Owner, ...], ...] = ((),)
    """Owners that areas have together; the first are none."""

    def __repr__(self) -> str:
        held = f"{len(self.areas)} areas, {len(self.problems)} problems"
        return f"<Snapshot of {self.kernel.release!r}: {held}>"
