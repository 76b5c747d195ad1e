# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Page tables
-----------

Each paging mode by tables laid out by hand, as the architectures' manuals have them: what
is mapped by a page and by larger leaves, what is not, and bits that are no part of an
address.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest
from drgn import Architecture, Platform, PlatformFlags

from drgn_vmap._numpy import np
from drgn_vmap.kernel.memory.table_formats import TableFormat, table_format

ROOT = 0x10000000
TABLE_BYTES = 0x10000
PHYS = 0x123450000
KERNEL = 0xFFFFC90000000000


@dataclass
class Mode:
    """A paging mode, and where its kernel's addresses are."""

    platform: Platform
    page_size: int
    numbers: dict[str, int]
    base: int
    levels: int
    table: int
    """Bits of an entry that leads to a table."""
    page: int
    leaf: int
    """Bits of an entry above the last level that leads to memory."""
    leaves: tuple[int, ...]
    """Sizes of such leaves, by shift."""
    invalid: tuple[int, ...]
    """Entries of pages that lead nowhere."""
    root_entry: int = 0
    shifts: tuple[int, ...] = field(default=())
    lower: int = 0
    """How many bits further down an entry has an address."""

    def to(self, phys: int) -> int:
        """Return the bits of an entry that leads to a physical address."""
        return phys >> self.lower


X86 = Platform(Architecture.X86_64)
ARM = Platform(Architecture.AARCH64)
PPC = Platform(
    Architecture.PPC64, PlatformFlags.IS_64_BIT | PlatformFlags.IS_LITTLE_ENDIAN
)
S390 = Platform(Architecture.S390X)
RISCV = Platform(Architecture.RISCV64)
RISCV_INVALID = (0, 0xEE, PHYS >> 2, PHYS >> 2 | 0x2)
"""Nothing, all but the valid bit, and pages without it, one of them PROT_NONE."""
VALID = 1 << 63
X86_4 = (39, 30, 21, 12)
X86_INVALID = (0, 0x62, PHYS, PHYS | 0x100, ~0x1FF % (1 << 64) ^ PHYS)
"""Nothing, a swap entry, one without the present bit, PROT_NONE, one made for L1TF."""

MODES = {
    "x86_64, 4 levels": Mode(
        X86, 4096, {}, KERNEL, 4, 0x63, 0x163, 0x1E3, (30, 21), X86_INVALID, 0, X86_4
    ),
    "x86_64, 5 levels": Mode(
        X86,
        4096,
        {"pgtable_l5_enabled": 1},
        0xFFA0000000000000,
        5,
        0x63,
        0x163,
        0x1E3,
        (30, 21),
        X86_INVALID,
        0,
        (48, *X86_4),
    ),
    "arm64, 4K, 48 bits": Mode(
        ARM,
        4096,
        {"VA_BITS": 48, "TCR_EL1_T1SZ": 16},
        0xFFFF800080000000,
        4,
        3,
        0x703,
        0x701,
        (30, 21),
        (0, PHYS, PHYS | 1, PHYS | 2),
        0,
        X86_4,
    ),
    "arm64, 4K, 39 bits": Mode(
        ARM,
        4096,
        {"VA_BITS": 39, "TCR_EL1_T1SZ": 25},
        0xFFFFFFC080000000,
        3,
        3,
        0x703,
        0x701,
        (30, 21),
        (0, PHYS, PHYS | 1, PHYS | 2),
        0,
        (30, 21, 12),
    ),
    "arm64, 16K, 47 bits": Mode(
        ARM,
        16384,
        {"VA_BITS": 47, "TCR_EL1_T1SZ": 17},
        0xFFFFC00080000000,
        3,
        3,
        0x703,
        0x701,
        (25,),
        (0, 1, 2),
        0,
        (36, 25, 14),
    ),
    "arm64, 64K, 42 bits": Mode(
        ARM,
        65536,
        {"VA_BITS": 42, "TCR_EL1_T1SZ": 22},
        0xFFFFFE0080000000,
        2,
        3,
        0x703,
        0x701,
        (29,),
        (0, 1, 2),
        0,
        (29, 16),
    ),
    "ppc64, radix, 64K": Mode(
        PPC,
        65536,
        {},
        0xC008000000000000,
        4,
        VALID | 5,
        VALID | 1 << 62 | 0x187,
        VALID | 1 << 62 | 0x187,
        (30, 21),
        (0, 1 << 62 | PHYS, PHYS),
        0,
        (39, 30, 21, 16),
    ),
    "ppc64, radix, 4K": Mode(
        PPC,
        4096,
        {},
        0xC008000000000000,
        4,
        VALID | 9,
        VALID | 1 << 62 | 0x187,
        VALID | 1 << 62 | 0x187,
        (30, 21),
        (0, 1 << 62 | PHYS, PHYS),
        0,
        X86_4,
    ),
    "s390x, 3 levels": Mode(
        S390,
        4096,
        {},
        0x380_0000_0000 & ((1 << 42) - 1),
        3,
        0x7,
        0x1D,
        0x407,
        (31, 20),
        (0x400, 0x400 | PHYS),
        0x7,
        (31, 20, 12),
    ),
    "s390x, 4 levels": Mode(
        S390,
        4096,
        {},
        0x38000000000000 & ((1 << 53) - 1),
        4,
        0xB,
        0x1D,
        0x407,
        (31, 20),
        (0x400, 0x400 | PHYS),
        0xB,
        (42, 31, 20, 12),
    ),
    "riscv64, Sv39": Mode(
        RISCV,
        4096,
        {"VA_BITS": 39},
        0xFFFFFFC800000000,
        3,
        0x1,
        0x20000000000000E7,
        0xE7,
        (30, 21),
        RISCV_INVALID,
        0,
        (30, 21, 12),
        lower=2,
    ),
    "riscv64, Sv48": Mode(
        RISCV,
        4096,
        {"VA_BITS": 48},
        0xFFFFAF8000000000,
        4,
        0x1,
        0x20000000000000E7,
        0xE7,
        (39, 30, 21),
        RISCV_INVALID,
        0,
        (39, 30, 21, 12),
        lower=2,
    ),
    "riscv64, Sv57": Mode(
        RISCV,
        4096,
        {"VA_BITS": 57},
        0xFF20000000000000,
        5,
        0x1,
        0x20000000000000E7,
        0xE7,
        (39, 30, 21),
        RISCV_INVALID,
        0,
        (48, 39, 30, 21, 12),
        lower=2,
    ),
}
ALL = pytest.mark.parametrize("name", MODES)


def format_of(mode: Mode, **numbers: int) -> TableFormat:
    found = table_format(
        mode.platform,
        {**mode.numbers, **numbers},
        mode.page_size,
        lambda order: mode.root_entry,
    )
    assert found is not None
    return found


@pytest.mark.parametrize("absurd", [-1, 0, 3, 65_536, 1 << 63, 10**400])
def test_absurd_modes(absurd: int) -> None:
    """What VMCOREINFO says of the mode is one that there is, or as if it said nothing."""
    x86_64 = Platform(Architecture.X86_64)
    aarch64 = Platform(Architecture.AARCH64)
    numbers = {"VA_BITS": absurd}
    assert table_format(RISCV, numbers, 4096, lambda order: 0) is None
    as_usual = table_format(x86_64, {}, 4096, lambda order: 0)
    numbers = {"pgtable_l5_enabled": absurd}
    assert table_format(x86_64, numbers, 4096, lambda order: 0) == as_usual
    for numbers in ({"VA_BITS": absurd}, {"VA_BITS": 48, "TCR_EL1_T1SZ": absurd}):
        assert table_format(aarch64, numbers, 4096, lambda order: 0) is None


def walked(format_: TableFormat, mode: Mode, entries: dict[int, int]) -> int | None:
    """Go down from the root; return where the address leads, or None."""
    table, last = ROOT, len(mode.shifts) - 1
    for level, shift in enumerate(mode.shifts):
        place = format_.places(one(table), one(mode.base), level)
        entry = one(entries.get(int(place[0]), 0))
        if not format_.present(entry, level == last)[0]:
            return None
        if level == last or format_.leaf(entry, shift)[0]:
            inside = mode.base & ((1 << shift) - 1)
            return (int(format_.frame(entry)[0]) & -(1 << shift)) + inside
        table = int(format_.table(entry)[0])
    raise AssertionError("no end")


def one(number: int) -> "np.ndarray":
    return np.array([number], np.uint64)


def tables(mode: Mode, end: int, entry: int) -> dict[int, int]:
    """Lay out tables down to the level of a shift, where the entry stands."""
    found: dict[int, int] = {}
    table, above = ROOT, mode.base.bit_length()
    for number, shift in enumerate(mode.shifts):
        index = mode.base >> shift
        if number:
            index &= (1 << (above - shift)) - 1
        else:
            index &= root_mask(mode)
        place = table + 8 * index
        if shift == end:
            found[place] = entry
            return found
        table += TABLE_BYTES
        found[place] = mode.to(table) | mode.table
        above = shift
    raise AssertionError("no such level")


def root_mask(mode: Mode) -> int:
    """Return the bits of an index into the root, of the architecture's address space."""
    bits = {
        Architecture.X86_64: 57 if len(mode.shifts) == 5 else 48,
        Architecture.AARCH64: mode.numbers.get("VA_BITS", 0),
        Architecture.PPC64: 52,
        Architecture.RISCV64: mode.numbers.get("VA_BITS", 0),
        Architecture.S390X: mode.shifts[0] + 11,
    }[mode.platform.arch]
    return (1 << (bits - mode.shifts[0])) - 1


@ALL
def test_shape(name: str) -> None:
    """As many levels as the manual has, each at its bits of an address."""
    format_ = format_of(MODES[name])
    assert format_.shifts == MODES[name].shifts
    assert len(format_.shifts) == MODES[name].levels
    assert format_.reaches(one(MODES[name].base))[0]


@ALL
def test_page(name: str) -> None:
    """A page's entry leads to it, whatever its other bits say."""
    mode = MODES[name]
    phys = PHYS & -mode.page_size
    mapped = tables(mode, mode.shifts[-1], mode.to(phys) | mode.page)
    assert walked(format_of(mode), mode, mapped) == phys


@ALL
def test_leaves(name: str) -> None:
    """An entry above the last level may lead to as much memory as it stands for."""
    mode = MODES[name]
    for shift in mode.leaves:
        mapped = tables(mode, shift, mode.to(5 << shift) | mode.leaf)
        inside = mode.base & ((1 << shift) - 1)
        assert walked(format_of(mode), mode, mapped) == (5 << shift) + inside


@ALL
def test_invalid_entries(name: str) -> None:
    """What has no bit that makes it valid leads nowhere, whatever else it has."""
    mode = MODES[name]
    for entry in mode.invalid:
        mapped = tables(mode, mode.shifts[-1], entry)
        assert walked(format_of(mode), mode, mapped) is None, hex(entry)


@ALL
def test_missing_tables(name: str) -> None:
    """Nor does an address at any level that nothing stands at."""
    mode = MODES[name]
    nothing = 0x20 if mode.platform.arch == Architecture.S390X else 0
    for shift in mode.shifts[:-1]:
        mapped = tables(mode, shift, nothing)
        assert walked(format_of(mode), mode, mapped) is None


SME, TDX = 1 << 47, 1 << 51


@pytest.mark.parametrize("name", ["x86_64, 4 levels", "x86_64, 5 levels"])
@pytest.mark.parametrize(
    "mark, numbers",
    [
        (SME, {"sme_mask": SME}),
        (SME, {"physical_mask": ((1 << 52) - 1) & ~SME}),
        (TDX, {"physical_mask": TDX - 1}),
    ],
    ids=["SME by VMCOREINFO", "SEV by physical_mask", "TDX by physical_mask"],
)
def test_marks_of_encryption(name: str, mark: int, numbers: dict[str, int]) -> None:
    """A bit that says how memory is encrypted is no part of any address."""
    mode = MODES[name]
    mapped = tables(mode, 12, PHYS | mode.page)
    marked = {place: entry | mark for place, entry in mapped.items()}
    assert walked(format_of(mode, **numbers), mode, marked) == PHYS
    large = tables(mode, 21, (5 << 21) | mode.leaf | mark)
    inside = mode.base & ((1 << 21) - 1)
    assert walked(format_of(mode, **numbers), mode, large) == (5 << 21) + inside


def test_addresses_of_52_bits() -> None:
    """Arm keeps the highest bits of an address in the lowest of an entry."""
    mode = MODES["arm64, 64K, 42 bits"]
    phys = (0xA << 48) | 0x123450000
    entry = (phys & ((1 << 48) - 1)) | 0xA << 12 | mode.page & ~0xF000
    assert int(format_of(mode).frame(one(entry))[0]) == phys


@pytest.mark.parametrize(
    "marks, leads_on",
    [
        (1 << 63, True),
        (1 << 61 | 1 << 63, True),
        (0, False),
        (1 << 60 | 1 << 63, False),
    ],
    ids=["Svnapot", "Svnapot and Svpbmt", "a page", "a page of T-Head's"],
)
def test_pages_of_64_kib(marks: int, leads_on: bool) -> None:
    """
    riscv's Svnapot: 16 entries alike lead to 16 pages, one after the other. Without its
    mark, or with a processor's that has a bit of its own there, they lead to one.
    """
    format_ = format_of(MODES["riscv64, Sv48"])
    entry = (0x12345 << 4 | 8) << 10 | 0xE7 | marks
    places = np.arange(ROOT, ROOT + 16 * 8, 8, dtype=np.uint64)
    expected = [0x123450 + index if leads_on else 0x123458 for index in range(16)]
    singles = format_.single(np.full(16, entry, np.uint64), places)
    assert (format_.frame(singles) >> np.uint64(12)).tolist() == expected
    assert [
        format_.frame(format_.single(entry, place)) >> 12 for place in places.tolist()
    ] == expected


def test_entries_in_memory() -> None:
    """Power keeps entries in big-endian order on any kernel, as s390x does."""
    for name, order in (("ppc64, radix, 64K", ">"), ("s390x, 3 levels", ">")):
        assert format_of(MODES[name]).order == order
    assert format_of(MODES["x86_64, 4 levels"]).order == "<"
    assert struct.pack(">Q", 1)[-1] == 1
