# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What differs between architectures: byte order, page size, and what follows from them.

The fake kernel holds the same words in either byte order; that big-endian kernels are
read right is seen in the lab on s390x.
"""

import struct
from typing import Dict, Tuple

import pytest
from drgn import (
    Architecture,
    Object,
    Platform,
    PlatformFlags,
    Program,
    Type,
    TypeMember,
)

from drgn_vmap import describe, take_snapshot
from drgn_vmap._numpy import np
from drgn_vmap.errors import SymbolsError
from drgn_vmap.kernel.memory import table_formats
from drgn_vmap.kernel.memory.table_formats import TableFormat
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.types import calls
from drgn_vmap.kernel.vmalloc import blocks
from drgn_vmap.kernel.vmalloc.callers import _is_name
from drgn_vmap.kernel.vmalloc.ranges import vmalloc_range
from drgn_vmap.model.areas import PointerPolicy, State
from drgn_vmap.model.space import VmallocRange
from drgn_vmap.render.pointers import pointer_format
from tests.fakes.kernel import LITTLE_ENDIAN, VMALLOC_START, FakeArea, FakeKernel

KIB = 1024
BIG_ENDIAN = Platform(Architecture.S390X, PlatformFlags.IS_64_BIT)
ARM = Platform(Architecture.ARM, PlatformFlags.IS_LITTLE_ENDIAN)
ARM_START = 0xE0800000


def kernel(platform: Platform, page_size: int) -> FakeKernel:
    """A kernel with areas of each kind, all of them whole pages."""
    step = 16 * page_size
    pages = page_size // (4 * KIB)
    start = ARM_START if platform == ARM else VMALLOC_START
    areas = [
        FakeArea(start + step * i, (2 + i) * pages, vm_flags=0x2) for i in range(6)
    ]
    areas.append(FakeArea(start + step * 8, 10 * pages, va_flags=0x1))
    areas.append(FakeArea(start + step * 16, 128 * pages, va_flags=0x3))
    lazy = [FakeArea(start + step * 7, 3 * pages)]
    return FakeKernel(areas, lazy, platform, page_size)


@pytest.mark.parametrize("page_size", [4 * KIB, 16 * KIB, 64 * KIB])
@pytest.mark.parametrize("platform", [BIG_ENDIAN, LITTLE_ENDIAN, ARM])
def test_areas(platform: Platform, page_size: int) -> None:
    """All areas are found where they are, with what their words say."""
    fake = kernel(platform, page_size)
    snapshot = take_snapshot(fake.program())
    assert snapshot.problems == ()
    assert snapshot.kernel.page_size == page_size
    assert snapshot.kernel.word_size == (4 if platform == ARM else 8)
    found = list(describe(snapshot))
    busy = [area for area in found if area.state == State.BUSY]
    assert [(area.start, area.end) for area in busy] == [
        (area.start, area.end) for area in fake.areas
    ]
    kinds = [area.kinds for area in busy]
    assert kinds == [("vmalloc",)] * 6 + [("vm_map_ram",), ("vmap_block",)]
    lazy = [area.start for area in found if area.state == State.LAZY]
    assert lazy == [area.start for area in fake.lazy]


def test_areas_are_whole_pages() -> None:
    """What begins or ends within a page is no area, whatever a page has."""
    fake = kernel(LITTLE_ENDIAN, 64 * KIB)
    fake.memory[fake.word(fake.areas[2], "va_end")] -= 4 * KIB
    snapshot = take_snapshot(fake.program())
    assert fake.areas[2].start not in snapshot.areas.start.tolist()
    assert [problem.what for problem in snapshot.problems] == ["corrupt"]


@pytest.mark.parametrize(
    "page_size, nr_cpus, bits",
    [
        (4 * KIB, 64, 1024),
        (4 * KIB, 2048, 1024),
        (4 * KIB, 4096, 512),
        (4 * KIB, 8192, 256),
        (16 * KIB, 512, 1024),
        (64 * KIB, 512, 256),
        # The 8 MiB blocks of ppc64le.
        (64 * KIB, 2048, 128),
    ],
)
def test_bits_per_block(page_size: int, nr_cpus: int, bits: int) -> None:
    """VMAP_BBMAP_BITS (mm/vmalloc.c), worked out by hand for 128 GiB."""
    prog = kernel(LITTLE_ENDIAN, page_size).program()

    def find(prog: Program, name: str, *_: object) -> "Object | None":
        if name != "__per_cpu_offset":
            return None
        array = prog.array_type(prog.type("unsigned long"), nr_cpus)
        return Object(prog, array, address=0)

    prog.register_object_finder("per-cpu", find, enable_index=0)
    assert blocks._bits_by_formula(Target(prog)) == bits


@pytest.mark.parametrize("order", ["<", ">"])
def test_bits_of_bitmaps(order: str) -> None:
    """Bit 0 of the first word is page 0, in either byte order."""
    words = np.array([[0b101, 1 << 63]], f"{order}u8")
    assert np.flatnonzero(blocks._bits(words)[0]).tolist() == [0, 2, 127]


def test_no_array_of_struct_pages() -> None:
    """Without CONFIG_SPARSEMEM_VMEMMAP the error says what to do instead."""
    with pytest.raises(SymbolsError, match="CONFIG_SPARSEMEM_VMEMMAP.*: use "):
        Target(kernel(LITTLE_ENDIAN, 4 * KIB).program()).frames


class Flat(FakeKernel):
    """32-bit Arm, whose memory begins at page frame 0x40000: low, and then high."""

    def __init__(self, platform: Platform = ARM) -> None:
        super().__init__([FakeArea(ARM_START, 2, vm_flags=0x2)], platform=platform)
        node, low_end = self._allocate(8), self._allocate(4)
        self.memory.update({node: 0xDEB71000, node + 4: 0x40000, low_end: 0xEF800000})
        self.variables["contig_page_data"] = ("pglist_data", node)
        self.variables["high_memory"] = ("pointer", low_end)

    def _types(self, prog: Program) -> Dict[str, Type]:
        pointer = prog.pointer_type(prog.void_type())
        ulong = prog.int_type("unsigned long", 4, False)
        members = [
            TypeMember(pointer, "node_mem_map", 0),
            TypeMember(ulong, "node_start_pfn", 32),
        ]
        added = {
            "pointer": pointer,
            "pglist_data": prog.struct_type("pglist_data", 8, members),
            "page": prog.struct_type("page", 36, ()),
        }
        return {**super()._types(prog), **added}


def test_struct_pages_of_a_flat_memory() -> None:
    """With CONFIG_FLATMEM the first struct page is that of the node's first frame."""
    frames = Target(Flat().program()).frames
    last = 0xDEB71000 + 0x3FFFF * 36
    wanted = np.array([0x40000, 0x7FFFF], np.uint64)
    assert frames.pages(wanted).tolist() == [0xDEB71000, last]
    pages = np.array([0xDEB71000, last + 35], np.uint64)
    assert frames.of(pages).tolist() == [0x40000, 0x7FFFF]


def test_vmalloc_space_of_arm() -> None:
    """It begins 8 MiB behind low memory, or less, at a whole multiple of that."""
    target = Target(Flat().program())
    assert vmalloc_range(target) == VmallocRange(0xF0000000, 0xFF800000, 0xFF800000)


def test_vmalloc_space_of_others() -> None:
    """That is so on Arm alone: elsewhere the end of low memory tells nothing of it."""
    x86 = Platform(Architecture.I386, PlatformFlags.IS_LITTLE_ENDIAN)
    with pytest.raises(SymbolsError):
        vmalloc_range(Target(Flat(x86).program()))


def test_hashed_addresses_of_32_bits() -> None:
    """What a guest's /proc/vmallocinfo printed of addresses that its vmcore has."""
    key = struct.pack("<QQ", 0x6A48D954E5CAE30F, 0xE5894F3A7B555BC9)
    policy = PointerPolicy(kptr_restrict=0, hash_pointers=True, key=key)
    addresses = np.array([0xBF000000, 0xBF005000, 0xBF007000], np.uint64)
    digits = pointer_format("auto", 4, policy)(addresses)
    assert digits == ["7bebcdbc", "d533c2d5", "07dc4c72"]


@pytest.mark.parametrize("name", ["$x", "$d", "$x.12", ".L123", "L0^A", ""])
def test_mapping_symbols_name_nothing(name: str) -> None:
    """is_mapping_symbol(): $x marks code and $d data in modules of arm64."""
    assert not _is_name(name)
    assert _is_name("map_vmalloc")


def test_calls_of_arm64() -> None:
    """BL leads forward and backward, in steps of four bytes; B and others are no calls."""
    code = struct.pack("<4I", 0x94000002, 0x14000001, 0xD65F03C0, 0x97FFFFFE)
    assert list(calls._aarch64_calls(code + b"\0")) == [8, 12 - 8]


def test_calls_of_ppc64() -> None:
    """BL leads to a function, or behind the two instructions that its symbol is at."""
    code = struct.pack("<4I", 0x48000011, 0x48000010, 0x4800_0013, 0x4BFFFFFD)
    assert list(calls._ppc64_calls(code + b"\0")) == [16, 8, 8, 0]


def test_calls_of_riscv64() -> None:
    """
    JAL, and AUIPC with JALR, lead forward and backward from any other byte; by another
    register, or alone, they are no calls.
    """
    code = bytes.fromhex(
        "0100 97100000 e7801000"  # c.nop; auipc ra, 1; jalr ra, 1(ra)
        "ef000001 6f000001"  # jal ra, 16; j 16
        "97f0ffff e780c0ff"  # auipc ra, -1; jalr ra, -4(ra)
        "97100000 67801000 eff05ffc"  # auipc ra, 1; jr 1(ra); jal ra, -60
    )
    expected = [2 + 0x1000 + 1, 10 + 16, 18 - 0x1000 - 4, 34 - 60]
    assert list(calls._riscv64_calls(code)) == expected


def test_calls_of_s390x() -> None:
    """BRASL counts in steps of two bytes; by another register it is none."""
    code = bytes.fromhex("07 07 c0e5 00000005 c015 00000005 c0e5 fffffff9")
    assert list(calls._s390x_calls(code + b"\xc0\xe5")) == [2 + 10, 14 - 14]


def aarch64(page_size: int, **numbers: int) -> TableFormat:
    found = table_formats._aarch64(numbers, page_size, lambda order: 0)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "page_size, va_bits, t1sz, shifts",
    [
        (4 * KIB, 48, 16, (39, 30, 21, 12)),
        (4 * KIB, 39, 25, (30, 21, 12)),
        (4 * KIB, 52, 12, (48, 39, 30, 21, 12)),
        # Built for 52 bits, on a processor of 48.
        (4 * KIB, 52, 16, (39, 30, 21, 12)),
        (16 * KIB, 52, 12, (47, 36, 25, 14)),
        (16 * KIB, 52, 17, (36, 25, 14)),
        (64 * KIB, 48, 16, (42, 29, 16)),
        (64 * KIB, 52, 16, (42, 29, 16)),
    ],
)
def test_levels_of_arm64(
    page_size: int, va_bits: int, t1sz: int, shifts: Tuple[int, ...]
) -> None:
    """Tables of one page each, the root less, for the bits that are in use."""
    found = aarch64(page_size, VA_BITS=va_bits, TCR_EL1_T1SZ=t1sz)
    assert found.shifts == shifts
    assert found.bits == (va_bits if page_size == 64 * KIB else 64 - t1sz)


@pytest.mark.parametrize(
    "page_size, va_bits, entry, address",
    [
        (4 * KIB, 48, 0x00680000_4185E703, 0x4185E000),
        # Bits 51 and 50 of the address are in bits 9 and 8 of the entry.
        (4 * KIB, 52, 0x00430000_4185E303, 0xF0000_4185E000),
        # Bits 51 to 48 are in bits 15 to 12.
        (64 * KIB, 52, 0x00680000_4185F703, 0xF0000_41850000),
    ],
)
def test_addresses_of_arm64(
    page_size: int, va_bits: int, entry: int, address: int
) -> None:
    """Worked out by hand from the manual's figures of descriptors."""
    found = aarch64(page_size, VA_BITS=va_bits)
    assert found.frame(np.array([entry], np.uint64)).tolist() == [address]


@pytest.mark.parametrize("kind, levels", [(0x0, 2), (0x4, 3), (0x8, 4), (0xC, 5)])
def test_levels_of_s390x(kind: int, levels: int) -> None:
    """An entry, valid or not, says of which kind its table is."""
    found = table_formats._s390x({}, 4 * KIB, lambda order: 0x20 | kind)
    assert len(found.shifts) == levels
    assert found.shifts[-2:] == (20, 12)
