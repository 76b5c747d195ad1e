# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Model
-----

What was read from a kernel, as plain data: no drgn object lives here, so
analyses and renderers run without a kernel and results compare equal.

Areas come by the hundred thousand, so they are kept as columns
(:class:`AreaTable`); a row of it is an :class:`Area`. Addresses are plain
integers, sizes are in bytes unless the name says ``_pages``.
"""

import enum
from dataclasses import dataclass, fields
from typing import Mapping, Optional, Sequence, Tuple

from ._numpy import Array, U64Array, np

__all__ = (
    "Area",
    "AreaTable",
    "AreaTree",
    "Block",
    "BlockMaps",
    "BlockTable",
    "BlockTotals",
    "Blocks",
    "CELLS_A_ROW",
    "CallerChange",
    "Check",
    "CheckedArea",
    "CoreHead",
    "CpuBlocks",
    "Difference",
    "Failure",
    "Finding",
    "Fit",
    "Gap",
    "Gaps",
    "Inspection",
    "InTheWay",
    "KcoreAnswer",
    "KcoreCheck",
    "KcoreRules",
    "Kernel",
    "LazyPages",
    "Look",
    "NO_CPU",
    "Overview",
    "PageClass",
    "PageCounter",
    "PageFinding",
    "PageRange",
    "PageState",
    "Patch",
    "PatchVerdict",
    "Place",
    "PointerPolicy",
    "Problem",
    "Reconciliation",
    "Report",
    "SavedAreas",
    "SavedText",
    "SeriesSigns",
    "SeriesVerdict",
    "SizeClass",
    "Snapshot",
    "Spot",
    "State",
    "Strength",
    "Stretch",
    "Sum",
    "Top",
    "Translation",
    "Verdict",
    "Verification",
    "VmPages",
    "VM_FLAGS",
    "VmallocRange",
    "VMAP_BLOCK",
    "VMAP_RAM",
    "VmallocinfoRules",
    "vm_flag",
)

# Preprocessor macros of include/linux/vmalloc.h have no debug info, so their
# values stand here. Bit 10 is left out: it was VM_NO_HUGE_VMAP (5.13 to 5.17)
# before it became VM_ALLOW_HUGE_VMAP, its opposite.
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

# Macros of mm/vmalloc.c, since commit 869176a09606 ("mm/vmalloc.c: add flags to
# mark vm_map_ram area") (in v6.3).
VMAP_RAM = 0x1
VMAP_BLOCK = 0x2


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


@dataclass(frozen=True)
class Problem:
    """Something that could not be read, or that contradicts itself."""

    what: str
    """Kind of trouble, one of a small set of words, such as ``unreadable``."""
    where: str
    """Which structure, with its address."""
    detail: str
    """What was found, what was left out because of it."""


@dataclass(frozen=True)
class VmallocinfoRules:
    """How this kernel's own /proc/vmallocinfo is made (mm/vmalloc.c)."""

    per_node: bool
    """Areas are listed node by node, so not sorted by address."""
    ram_by_flag: bool
    """An area without vm is listed only if its flags have VMAP_RAM."""
    uninitialized_listed: bool
    """Areas with VM_UNINITIALIZED are listed (without N counts)."""
    lazy_after_vm_only: bool
    """Unpurged areas are listed only if the last busy area has a vm."""
    sparse_label: bool
    """VM_SPARSE is known and labelled."""
    phys_digits: int
    """Hexadecimal digits of a phys_addr_t."""


@dataclass(frozen=True)
class PointerPolicy:
    """What %pK prints on this kernel (lib/vsprintf.c)."""

    kptr_restrict: int
    """The sysctl: 0 hashes, 1 shows root the address, 2 shows zeros."""
    hash_pointers: bool
    """False after booting with no_hash_pointers."""
    key: Optional[bytes]
    """The 16 bytes of ptr_key, None while the kernel has not drawn them."""


@dataclass(frozen=True)
class Kernel:
    """The kernel a snapshot was taken from."""

    release: str
    layout: str
    """Layout generation, "A" (up to 5.10) to "E" (since 6.9)."""
    live: bool
    symbols: str
    """Where types came from, "dwarf" or "btf"."""
    page_size: int
    word_size: int
    """Size of a pointer."""
    has_va_flags: bool
    """struct vmap_area has the member flags (series patch 2)."""
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
    node: Optional[int] = None
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

    @property
    def size(self) -> int:
        """Bytes from start to end, guard page included."""
        return self.end - self.start


@dataclass(frozen=True)
class AreaTable:
    """
    Areas as columns of equal length.

    Columns that describe a vm_struct are zero where ``vm`` is zero or could not
    be read (``vm_ok`` tells).
    """

    address: U64Array
    start: U64Array
    end: U64Array
    state: Array
    node: Array
    va_flags: U64Array
    is_block: Array
    vm: U64Array
    vm_ok: Array
    addr: U64Array
    size: U64Array
    flags: U64Array
    pages: U64Array
    nr_pages: U64Array
    page_order: U64Array
    phys_addr: U64Array
    caller: U64Array
    requested_size: U64Array
    vpages: Array
    numa_pages: Array
    """Pages by node: a row an area, a column for each of Kernel.numa_nodes."""

    def __len__(self) -> int:
        return len(self.start)

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


NO_CPU = -1
"""Stands for the CPU where none applies."""


@dataclass(frozen=True)
class BlockTable:
    """
    Struct vmap_block of a kernel, by address, as columns of equal length.

    Where no CPU applies, :data:`NO_CPU` stands.
    """

    address: U64Array
    area: U64Array
    """Address of the struct vmap_area that is divided."""
    start: U64Array
    end: U64Array
    free: U64Array
    """Pages never handed out. They are the last ones of the block."""
    dirty: U64Array
    """Pages handed out and freed. They are not handed out again."""
    dirty_min: U64Array
    dirty_max: U64Array
    used: Array
    """The bits of used_map: a row a block, a column a page."""
    mapped: Array
    """Which pages the page table maps, in the same form."""
    mapped_known: Array
    """False for a block of which parts of the page table could not be read."""
    xarray_cpu: Array
    """CPU whose xarray holds the block."""
    list_cpu: Array
    """CPU whose list of blocks with free pages holds the block."""
    queue_cpu: Array
    """The CPU that the member vmap_block.cpu names."""

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True)
class Blocks:
    """All struct vmap_block of a kernel at one moment."""

    kernel: Kernel
    bits_per_block: int
    """Pages a block has, VMAP_BBMAP_BITS of mm/vmalloc.c."""
    has_used_map: bool
    """struct vmap_block has the member used_map (series patch 1)."""
    cpus: Tuple[int, ...]
    """Possible CPUs, each of which has a list of blocks with free pages."""
    table: BlockTable
    problems: Tuple[Problem, ...] = ()


PageRange = Tuple[int, int]
"""Index of the first page in a block, and of the first one behind."""


@dataclass(frozen=True)
class Block:
    """One struct vmap_block, as a row by itself; what does not apply is None."""

    start: int
    end: int
    vb: int
    """Address of the struct vmap_block."""
    free_pages: int
    dirty_pages: int
    dirty_min: int
    dirty_max: int
    used_pages: Optional[int]
    used_ranges: Optional[Tuple[PageRange, ...]]
    mapped_ranges: Optional[Tuple[PageRange, ...]]
    on_free_list_of_cpu: Optional[int]
    xarray_cpu: Optional[int]
    stranded_pages: int
    """Freed, but of no use to anybody until the whole block is given back."""
    purgeable: bool
    """Nothing in it is in use, so a purge may give it back."""


@dataclass(frozen=True)
class PageCounter:
    """The kernel's own count of pages that vmalloc allocated."""

    name: str
    """Of the variable or enumerator in the kernel."""
    pages: int
    """What /proc/meminfo shows as VmallocUsed, in kB there."""
    pending_pages: int
    """What CPUs have counted by themselves and not yet added; may be negative."""


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
    total: Sum

    def share(self, row: Sum) -> float:
        """Return a row's part of the bytes of all rows, 0 to 1."""
        return row.bytes / (sum(other.bytes for other in self.rows) or 1)


@dataclass(frozen=True)
class Reconciliation:
    """The pages that areas have, beside the kernel's counter of them."""

    summed_pages: int
    """Pages of all areas whose pages the kernel counts."""
    counter: Optional[PageCounter]

    @property
    def difference_pages(self) -> int:
        """Pages that the kernel counts, less those that were found."""
        if self.counter is None:
            return 0
        counted = self.counter.pages + self.counter.pending_pages
        return counted - self.summed_pages

    @property
    def verdict(self) -> str:
        """``equal``, ``differs`` or ``no counter``."""
        if self.counter is None:
            return "no counter"
        return "differs" if self.difference_pages else "equal"


class PageState(enum.IntEnum):
    """What a page of a block is."""

    FREE = 0
    FREED = 1
    """Handed out before, and not handed out again."""
    USED = 2
    MAPPED = 3
    """In the page table although nobody uses it."""


@dataclass(frozen=True)
class CpuBlocks:
    """The blocks that a CPU takes pages from."""

    cpu: int
    blocks: int
    free_pages: int


@dataclass(frozen=True)
class BlockTotals:
    """Sums over all blocks."""

    blocks: int
    pages: int
    """That the blocks cover."""
    used_pages: Optional[int]
    """None on kernels without used_map."""
    mapped_pages: int
    free_pages: int
    stranded_pages: int
    purgeable: int
    """Blocks that a purge may give back."""


@dataclass(frozen=True)
class VmallocRange:
    """Where vmalloc space lies."""

    start: int
    end: int
    """First address behind it."""
    limit: int
    """VMALLOC_END, beyond which no area may end. On x86 it is the last byte of the
    range, so that its last page is never used."""


@dataclass(frozen=True)
class LazyPages:
    """Pages of addresses that were freed but are not yet purged."""

    counted: int
    """What the kernel counted, vmap_lazy_nr."""
    maximum: int
    """The kernel starts a purge when more than these wait."""


@dataclass(frozen=True)
class Gap:
    """A free range of addresses."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


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
    lazy: LazyPages
    lazy_pages: int
    """Pages of areas that wait to be purged, or that are being purged."""

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
class Fit:
    """Whether an allocation would succeed now."""

    size: int
    """Bytes asked for."""
    needed: int
    """Bytes of addresses that takes: whole pages, and a guard page."""
    align: int
    where: Optional[int]
    """Address in free space that the kernel would choose; None if none is."""
    pools: Mapping[int, int]
    """Address that CPUs of a node would take from its pool instead, by node."""
    where_after_purge: Optional[int]
    """Lowest address if all that was freed lazily or pooled were free."""
    in_the_way: Optional[InTheWay]
    """If nothing helps; None if it would not even fit into an empty space."""

    @property
    def fits(self) -> bool:
        """Whether it succeeds without a purge, on some CPU at least."""
        return self.where is not None or bool(self.pools)

    @property
    def fits_after_purge(self) -> bool:
        """Whether it succeeds at the latest after a purge."""
        return self.fits or self.where_after_purge is not None


@dataclass(frozen=True)
class AreaTree:
    """
    A tree of areas, by address, and the links of the list that has the same ones.

    Each column has one element an area. Links are addresses: of a
    ``struct list_head`` in a list, of a ``struct rb_node`` in a tree.
    """

    name: str
    head: int
    """Address of the list's head."""
    first: int
    """What the head names as its next."""
    last: int
    """What the head names as its previous."""
    root: int
    address: U64Array
    start: U64Array
    end: U64Array
    link: U64Array
    """The area's own place in the list."""
    next: U64Array
    prev: U64Array
    rb: U64Array
    """The area's own place in the tree."""
    left: U64Array
    right: U64Array
    largest: Optional[U64Array]
    """subtree_max_size, which only the tree of free areas keeps."""


@dataclass(frozen=True)
class VmPages:
    """Pages of vm_struct.pages and what the page table says of their addresses."""

    row: Array
    """Row of the area in ``Snapshot.areas``."""
    index: U64Array
    page: U64Array
    """Address of the struct page, zero if it could not be read."""
    phys: U64Array
    """Where that page is."""
    mapped: U64Array
    """Where the page table leads, zero if nowhere."""
    known: Array
    """False if either could not be read."""


@dataclass(frozen=True)
class Inspection:
    """What a kernel says about its vmalloc state in more than one way."""

    snapshot: Snapshot
    """With areas of all states."""
    blocks: Blocks
    trees: Tuple[AreaTree, ...]
    vm_pages: VmPages
    pools: Optional[Array]
    """Lengths that pools have noted: a row a struct vmap_node, a column a size in
    pages, less one. None without nodes."""
    nr_nodes: int
    zone_size: Optional[int]
    """Bytes of addresses that go to one node before the next; None if not known."""
    lazy: LazyPages
    counter: Optional[PageCounter]
    vm_set_early: bool
    """An area has its vm before it is in the tree."""
    dirty_range_reset: bool
    """vm_unmap_aliases() empties the dirty range of blocks."""
    activity: Tuple[str, ...]
    """Who was about to change all this when a vmcore was taken."""


class Verdict(enum.Enum):
    """What a check of :mod:`drgn_vmap.analyses.fsck` found."""

    OK = "ok"
    FAILED = "failed"
    EXPLAINABLE = "explainable"
    """Legal for a moment, and somebody may have been at just that moment."""
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Failure:
    """Something that contradicts something else."""

    address: int
    """Of the struct that is named in the text, or of a range."""
    text: str
    window: str = ""
    """While what this is legal; empty if never."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    id: str
    title: str
    verdict: Verdict
    checked: int
    """How many things were looked at."""
    failures: Tuple[Failure, ...] = ()
    reason: str = ""
    """Why it was skipped, or what explains the failures."""


@dataclass(frozen=True)
class SeriesSigns:
    """What in a kernel's types and functions tells of the vm_map_ram series."""

    used_map: Optional[bool]
    """struct vmap_block has the member used_map (patch 1); None if it is not known."""
    va_flags_parameter: bool
    """alloc_vmap_area() takes the flags of the area (patch 2)."""
    ram_reader: Optional[str]
    """The function that reads vm_map_ram() memory for /proc/kcore (patch 3)."""
    architecture: str
    """drgn's name for it, such as ``X86_64``; empty if nothing tells."""
    inlined_known: bool = True
    """Whether the reader would have been seen if it was inlined."""


class PatchVerdict(enum.Enum):
    """Whether a patch is in a kernel."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not-applicable"


class Strength(enum.Enum):
    """How much evidence proves."""

    CERTAIN = "certain"
    STRONG = "strong"
    WEAK = "weak"


@dataclass(frozen=True)
class Patch:
    """One patch of the vm_map_ram series, and whether a kernel has it."""

    number: int
    title: str
    commit: str
    """In mainline."""
    verdict: PatchVerdict
    strength: Strength
    evidence: Tuple[str, ...]
    """What was looked at, and what was found."""


class SeriesVerdict(enum.Enum):
    """Whether a kernel has the vm_map_ram series."""

    FIXED = "fixed"
    NOT_FIXED = "not-fixed"
    PARTIAL = "partial"
    UNKNOWN = "unknown"
    """A saved text does not tell."""


@dataclass(frozen=True)
class Finding:
    """Something wrong beside what a verdict says."""

    id: str
    text: str


@dataclass(frozen=True)
class Verification:
    """Whether the vm_map_ram series is in a kernel, patch by patch."""

    patches: Tuple[Patch, ...]
    verdict: SeriesVerdict
    findings: Tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Overview:
    """A kernel's vmalloc state, summed up."""

    snapshot: Snapshot
    """With areas of all states."""
    gaps: Gaps
    top: Top
    """By caller."""
    pages: Reconciliation
    blocks: BlockTotals
    series: SeriesVerdict


CELLS_A_ROW = 128
"""Cells that are drawn side by side; each row may have a part of its own."""


@dataclass(frozen=True)
class Stretch:
    """Areas with no large gap between them, cut into cells of equal size."""

    start: int
    end: int
    areas: int
    bytes: int
    """Of these areas."""
    cell_bytes: int
    cells: Tuple[str, ...]
    """What holds most of each cell: a kind, a state, or nothing if all is free."""
    full: Tuple[bool, ...]
    """Whether more than half of each cell is held."""
    parts: Tuple["Stretch", ...] = ()
    """Its rows with smaller cells, if there is more to see in them."""


@dataclass(frozen=True)
class BlockMaps:
    """Some blocks and what their pages are."""

    shown: Tuple[Block, ...]
    states: Tuple[Tuple[PageState, ...], ...]
    totals: BlockTotals


@dataclass(frozen=True)
class Report:
    """What one file tells about a kernel; what is not known is None."""

    source: str
    """Where it is from."""
    kernel: Optional[Kernel]
    warnings: Tuple[str, ...]
    gaps: Optional[Gaps]
    pages: Optional[Reconciliation]
    tops: Tuple[Top, ...]
    stretches: Tuple[Stretch, ...]
    """Empty if addresses are not known."""
    largest: Tuple[Area, ...]
    blocks: Optional[BlockMaps]
    checks: Optional[Tuple[Check, ...]]
    series: Optional[Verification]
    problems: Tuple[Problem, ...]


@dataclass(frozen=True)
class Translation:
    """Where some addresses lead, each column as long as they are many."""

    phys: U64Array
    """Physical address, zero where nothing is mapped."""
    present: Array
    known: Array
    """False where a table could not be read, so nothing can be said."""


@dataclass(frozen=True)
class KcoreRules:
    """How this kernel's /proc/kcore reads vmalloc space (vread(), vread_iter())."""

    reads_ram: bool
    """It reads what vm_map_ram() mapped (series patch 3), and nothing of areas with
    VM_UNINITIALIZED (series patch 5)."""
    zeroes_holes: bool
    """Where no area is, it returns zeros, not what its buffer held before."""


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
    """Before and after, the page table led to the same place, which held the same."""
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
    ``wrong``, ``zero`` or ``equal``; ``none-found`` if there is no such area."""
    pages: int
    """Pages that were read."""
    all_pages: int
    """Pages that the areas have, guard pages only if they are read too."""
    sample_pages: Optional[int]
    """Pages that were read at most of an area that vm_map_ram() did not make; None if
    all were."""
    problems: Tuple[Problem, ...] = ()

    @property
    def found_bad(self) -> bool:
        """Whether kcore did not return what it should, for any page."""
        return any(c.is_bad for area in self.areas for c in area.pages)


@dataclass(frozen=True)
class KcoreAnswer:
    """What /proc/kcore is to return for a page."""

    returns: str
    """``data``, ``zeros``, ``other-page`` or ``undefined``."""
    why: str
    page: Optional[int] = None
    """Whose bytes come instead: the index of a page of the same block."""


@dataclass(frozen=True)
class Spot:
    """An address that was asked for: a virtual one, ``phys:`` or ``page:``."""

    asked: str
    virtual: Tuple[int, ...]
    """Where it is in virtual memory; for a physical page where areas map it."""
    phys: Optional[int] = None
    """The physical address that was asked for."""


@dataclass(frozen=True)
class Place:
    """What is at an address."""

    asked: str
    address: Optional[int]
    """None if no area maps the physical address that was asked for."""
    phys: Optional[int] = None
    """None if nothing is mapped there, or if that is not known."""
    phys_known: bool = True
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
    below: Optional[Area] = None
    """The next area in use at lower addresses."""
    above: Optional[Area] = None


@dataclass(frozen=True)
class SavedAreas:
    """Areas that were read from a file."""

    name: str
    """Of the file."""
    kernel: Optional[Mapping[str, object]]
    """What ``ls --json`` says of the kernel; None if the file does not tell."""
    areas: Tuple[Area, ...]
    pointers: str = "raw"
    """What its addresses are, as of :class:`SavedText`."""


@dataclass(frozen=True)
class SavedText:
    """A copy of /proc/vmallocinfo."""

    name: str
    """Of the file."""
    snapshot: Snapshot
    """What it tells, a row of areas a line. The kernel is but an empty shell. Of a
    hashed address the hash stands for the start, and the end is as far behind it as
    the size says."""
    lines: Tuple[str, ...]
    """The lines that were understood."""
    pointers: str
    """What its addresses are: ``raw``, ``hashed``, or ``none``."""


@dataclass(frozen=True)
class CallerChange:
    """How much more a caller holds than before; negative if it is less."""

    caller: str
    areas: int
    bytes: int
    pages: int


@dataclass(frozen=True)
class Difference:
    """What changed among the busy areas between two moments."""

    common: int
    """Areas that are in both, grown or not."""
    added: Tuple[Area, ...]
    """The largest first, as in the following."""
    removed: Tuple[Area, ...]
    grown: Tuple[Tuple[Area, Area], ...]
    """Before and after: same start and caller, other size or number of pages."""
    by_caller: Tuple[CallerChange, ...]
    """Callers that hold more or less than before, the largest growth first."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.grown)


@dataclass(frozen=True)
class CoreHead:
    """What a vmcore says besides its pages."""

    machine: str
    """The architecture, by drgn's name."""
    is_64_bit: bool
    is_little_endian: bool
    vmcoreinfo: bytes
    page_size: int
    direct_map: int
    """Where the kernel maps physical address 0, as it does all of memory."""
