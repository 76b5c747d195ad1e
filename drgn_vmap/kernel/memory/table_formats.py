# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Formats of page tables
----------------------

How architectures lay out the tables that translate kernel addresses: how many levels
there are, which bits of an address are the index at each of them, and what an entry says.
"""

from dataclasses import dataclass
from typing import (
    Any,
    Callable,
    Container,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

from drgn import Architecture, Platform

from ..._numpy import Array, U64Array, np

__all__ = (
    "AARCH64_VA_BITS",
    "ENTRY_BYTES",
    "ENTRY_SHIFT",
    "RISCV64_VA_BITS",
    "AddressBits",
    "Bits",
    "TableFormat",
    "has_five_levels",
    "table_format",
)

ENTRY_SHIFT = 3
ENTRY_BYTES = 1 << ENTRY_SHIFT

Entries = Any
"""Of tables: an array of them, or one ``int``."""

# Shifts of the levels whose entries may lead to memory: 1 GiB and 2 MiB, 2 GiB and 1 MiB.
_X86_64_LEAVES = frozenset((30, 21))
_S390X_LEAVES = frozenset((31, 20))
_NAPOT_SHIFT = 10
_NAPOT_INDEX = 15 << _NAPOT_SHIFT
"""Of an entry of riscv, where the lowest bits of a page's number are."""
AARCH64_VA_BITS = range(36, 53)
"""What CONFIG_ARM64_VA_BITS may be."""
RISCV64_VA_BITS = (39, 48, 57)
"""What riscv's page tables may translate."""


class Bits(NamedTuple):
    """What bits of an entry say so."""

    mask: int
    value: int

    def __call__(self, entries: Entries) -> Any:
        """Return which entries have them so."""
        return entries & self.mask == self.value


class AddressBits(NamedTuple):
    """The bits of an entry that are a physical address."""

    mask: int
    """Of those that stand where the address has them."""

    high_mask: int = 0
    high_shift: int = 0
    """And of those that the address has further up, by so many bits."""

    def __call__(self, entries: Entries) -> Any:
        """Return the addresses."""
        found = entries & self.mask
        if self.high_mask:
            found = found | (entries & self.high_mask) << self.high_shift
        return found


@dataclass(frozen=True)
class TableFormat:
    """
    The page tables of one kernel.

    Functions take entries of tables, an array of them or one by itself as an ``int``.
    """

    shifts: Tuple[int, ...]
    """Of each level's index in an address, from the root; the last one is of pages."""

    bits: int
    """Lower bits of an address that are looked up."""

    upper: Tuple[int, ...]
    """What the bits above may be."""

    order: str
    """Byte order of entries, as numpy has it."""

    valid: Bits
    """Of entries of tables above those of pages that lead anywhere."""

    valid_page: Bits
    """And of those in tables of pages."""

    link: Bits
    """Of valid entries above that lead to a table rather than to memory."""

    large_shifts: Container[int]
    """Of the levels where others lead to memory."""

    table: AddressBits
    """Where the table is that an entry leads to."""

    frame: AddressBits
    """Where the memory is that an entry leads to."""

    napot: Optional[Bits] = None
    """
    Of entries of pages that lead, 16 alike, to 64 KiB together (riscv's Svnapot), and so not
    each to its own page.
    """

    def present(self, entries: Entries, last: bool) -> Any:
        """Return whether they lead anywhere; and whether they are of tables of pages."""
        return (self.valid_page if last else self.valid)(entries)

    def single(self, entries: Entries, places: Entries) -> Any:
        """
        Return entries of pages as if each led to its own page alone.

        :param places: Where they stand.
        """
        if self.napot is None:
            return entries
        index = (places >> ENTRY_SHIFT << _NAPOT_SHIFT) & _NAPOT_INDEX
        return entries ^ ((entries & _NAPOT_INDEX) ^ index) * self.napot(entries)

    def leaf(self, entries: Entries, shift: int) -> Any:
        """Return whether valid ones of the level with a shift lead to memory."""
        is_link = self.link
        return (entries & is_link.mask != is_link.value) & (shift in self.large_shifts)

    def index_bits(self, level: int) -> int:
        """Return how many bits the index of a level has."""
        above = self.shifts[level - 1] if level else self.bits
        return above - self.shifts[level]

    def places(self, tables: U64Array, addresses: U64Array, level: int) -> U64Array:
        """Return the physical addresses of entries of a level."""
        mask = np.uint64((1 << self.index_bits(level)) - 1)
        index = (addresses >> np.uint64(self.shifts[level])) & mask
        return tables + index * np.uint64(ENTRY_BYTES)

    def reaches(self, addresses: U64Array) -> Array:
        """Return which addresses the tables may translate."""
        reached = np.zeros(len(addresses), bool)
        for first, last in self.windows():
            reached |= (addresses >= np.uint64(first)) & (addresses <= np.uint64(last))
        return reached

    def windows(self) -> List[Tuple[int, int]]:
        """Return the first and the last address of each part that they reach."""
        if len(self.upper) == 1:
            first = self.upper[0] << self.bits
            return [(first, first + (1 << self.bits) - 1)]
        # The highest bit that is looked up is extended to all above.
        half = 1 << (self.bits - 1)
        return [(0, half - 1), ((1 << 64) - half, (1 << 64) - 1)]

    def addresses(self, start: U64Array, level: int) -> U64Array:
        """
        Return the addresses that the entries of tables translate first, a row a table.

        :param start: The first one of each table, 0 for the root.
        """
        index: U64Array = np.arange(1 << self.index_bits(level), dtype=np.uint64)
        found = start[:, np.newaxis] + (index << np.uint64(self.shifts[level]))
        if level == 0 and self.bits < 64:
            # Of the root's entries, the upper half stands for the highest addresses.
            half = found >> np.uint64(self.bits - 1)
            upper = np.array(self.upper, np.uint64)[[0, -1]][half.astype(np.intp)]
            found += upper << np.uint64(self.bits)
        return found


def table_format(
    platform: Optional[Platform],
    numbers: Mapping[str, int],
    page_size: int,
    root_entry: Callable[[str], int],
) -> Optional[TableFormat]:
    """
    Return the format of a kernel's page tables; None if it is not known here.

    :param numbers: Of VMCOREINFO, and physical_mask, a variable of x86_64.
    :param root_entry: Reads the first entry of the root, in a byte order.
    """
    make = _FORMATS.get(platform.arch) if platform else None
    return make(numbers, page_size, root_entry) if make else None


def _bit(number: int) -> Bits:
    return Bits(1 << number, 1 << number)


def _no_bit(number: int) -> Bits:
    return Bits(1 << number, 0)


def has_five_levels(numbers: Mapping[str, int]) -> bool:
    """Return whether page tables of x86-64 have five levels, by VMCOREINFO's numbers."""
    return numbers.get("pgtable_l5_enabled") == 1


def _x86_64(
    numbers: Mapping[str, int], page_size: int, root_entry: Callable[[str], int]
) -> TableFormat:
    """Intel's manual, volume 3: 4-level and 5-level paging."""
    five_levels = has_five_levels(numbers)
    bits = 57 if five_levels else 48
    # With memory encryption, entries have a bit that is no part of the address: AMD's,
    # which VMCOREINFO names, or Intel's, which is left out of physical_mask.
    mask = numbers.get("physical_mask", ~0) & ~numbers.get("sme_mask", 0)
    address = AddressBits(((1 << 52) - 1) & ~0xFFF & mask)
    return TableFormat(
        shifts=(48,) * five_levels + (39, 30, 21, 12),
        # The highest one is extended to all above.
        bits=bits,
        upper=(0, (1 << (64 - bits)) - 1),
        order="<",
        valid=_bit(0),
        valid_page=_bit(0),
        link=_no_bit(7),
        large_shifts=_X86_64_LEAVES,
        table=address,
        frame=address,
    )


def _aarch64(
    numbers: Mapping[str, int], page_size: int, root_entry: Callable[[str], int]
) -> Optional[TableFormat]:
    """Arm's manual, VMSAv8-64 translation tables, of TTBR1_EL1."""
    bits = numbers.get("VA_BITS", 0)
    page_shift = page_size.bit_length() - 1
    # A kernel built for more bits than the processor has leaves out the root's level,
    # but with pages of 64 KiB, the root's first entries.
    if page_shift != 16:
        bits = 64 - numbers.get("TCR_EL1_T1SZ", 64 - bits)
    if bits not in AARCH64_VA_BITS:
        return None
    last_to_first = range(page_shift, bits, page_shift - 3)
    kind = 3
    return TableFormat(
        shifts=tuple(reversed(last_to_first)),
        bits=bits,
        upper=((1 << (64 - bits)) - 1,),
        order="<",
        valid=_bit(0),
        # A block is no entry of the last level.
        valid_page=Bits(kind, kind),
        link=Bits(kind, kind),
        large_shifts=last_to_first,
        table=_aarch64_address(page_shift, bits),
        frame=_aarch64_address(page_shift, bits),
    )


def _aarch64_address(page_shift: int, bits: int) -> AddressBits:
    low = (1 << page_shift) - 1
    if page_shift == 16:
        # Bits 51 to 48 of the address are in bits 15 to 12.
        return AddressBits(((1 << 48) - 1) & ~low, 0xF000, 36)
    if bits > 48:
        # FEAT_LPA2: bits 51 and 50 of the address are in bits 9 and 8.
        return AddressBits(((1 << 50) - 1) & ~low, 0x300, 42)
    return AddressBits(((1 << 48) - 1) & ~low)


def _ppc64(
    numbers: Mapping[str, int], page_size: int, root_entry: Callable[[str], int]
) -> TableFormat:
    """The Power ISA, radix tree translation; arch/powerpc/include/asm/book3s/64."""
    shifts = (39, 30, 21, page_size.bit_length() - 1)
    return TableFormat(
        shifts=shifts,
        bits=52,
        upper=(0xC00,),
        order=">",
        valid=_bit(63),
        valid_page=_bit(63),
        link=_no_bit(62),
        large_shifts=shifts,
        table=AddressBits(0x0FFFFFFFFFFFFF00),
        frame=AddressBits(0x01FFFFFFFFFFF000),
    )


def _s390x(
    numbers: Mapping[str, int], page_size: int, root_entry: Callable[[str], int]
) -> TableFormat:
    """The Principles of Operation, dynamic address translation."""
    # The type of a table is in its entries: segments, or regions of the third to first
    # kind.
    upper_levels = 1 + (root_entry(">") >> 2 & 3)
    shifts = (53, 42, 31, 20)[-upper_levels:]
    return TableFormat(
        shifts=(*shifts, 12),
        bits=min(64, shifts[0] + 11),
        upper=(0,),
        order=">",
        valid=_no_bit(5),
        valid_page=_no_bit(10),
        link=_no_bit(10),
        large_shifts=_S390X_LEAVES,
        # Page tables have 2 KiB, others 16, and the memory below an entry 4 or more.
        table=AddressBits(~0x7FF % (1 << 64)),
        frame=AddressBits(~0xFFF % (1 << 64)),
    )


def _riscv64(
    numbers: Mapping[str, int], page_size: int, root_entry: Callable[[str], int]
) -> Optional[TableFormat]:
    """The privileged architecture: Sv39, Sv48, Sv57 and Svnapot."""
    bits = numbers.get("VA_BITS")
    if bits not in RISCV64_VA_BITS:
        return None
    shifts = tuple(range(bits - 9, 11, -9))
    number = (1 << 54) - (1 << 10)
    address = AddressBits(0, number, 2)
    return TableFormat(
        shifts=shifts,
        bits=bits,
        # The highest one is extended to all above.
        upper=(0, (1 << (64 - bits)) - 1),
        order="<",
        valid=_bit(0),
        # What may be neither read, written nor executed leads to a table.
        valid_page=_bit(0),
        link=Bits(0xE, 0),
        large_shifts=shifts,
        table=address,
        frame=address,
        # T-Head's processors do not have these, but set bit 63 of what is a device's, and
        # bit 60 with it.
        napot=Bits(1 << 63 | 1 << 60 | _NAPOT_INDEX, 1 << 63 | 8 << _NAPOT_SHIFT),
    )


_FORMATS: Dict[
    Architecture,
    Callable[[Mapping[str, int], int, Callable[[str], int]], Optional[TableFormat]],
] = {
    Architecture.X86_64: _x86_64,
    Architecture.AARCH64: _aarch64,
    Architecture.PPC64: _ppc64,
    Architecture.RISCV64: _riscv64,
    Architecture.S390X: _s390x,
}
