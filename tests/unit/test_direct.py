# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Direct reads
------------

An x86-64 address space made by hand, in physical memory that a program reads: what leads
where, what is read again, and what is an error. What drgn reads so of real kernels is
tested in the lab.
"""

import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from drgn import Architecture, FaultError, Platform, Program

from drgn_vmap import use_direct_reads
from drgn_vmap._numpy import np
from drgn_vmap.commands import direct, run
from drgn_vmap.kernel.memory.address_space import AddressSpace
from drgn_vmap.kernel.memory.direct import direct_reads
from drgn_vmap.kernel.memory.kcore import Kcore, Space
from drgn_vmap.kernel.memory.table_formats import (
    AddressBits,
    TableFormat,
    table_format,
)
from drgn_vmap.kernel.memory.views import ThroughDrgn
from tests.fakes.elf_core import Segment, elf_headers
from tests.fakes.kernel import FakeKernel

PAGE = 4096
BASE = 0xFFFFC90000000000
HUGE = 2 << 20
START = BASE - 3 * PAGE
"""Of the segment: it need not be where a table begins."""
PRESENT, LEAF = 0x1, 0x80
ROOT, RAM = 0x1000, 0x100000
RAM_PAGES = 64


def format_of(arch: Architecture) -> TableFormat:
    numbers = {"VA_BITS": 48}
    found = table_format(Platform(arch), numbers, PAGE, lambda order: 0x28)
    assert found is not None
    return found


class Machine:
    """Physical memory with page tables of x86-64, and pages that are like no other's."""

    def __init__(self, **other: Any) -> None:
        self.tables: Dict[int, List[int]] = {ROOT: [0] * 512}
        self.reads: List[int] = []
        self.now = 0.0
        self.prog = Program(Platform(Architecture.X86_64))
        self.prog.add_memory_segment(0, RAM, self._read_table, True)
        data = b"".join(page(number) for number in range(RAM_PAGES))
        self.prog.add_memory_segment(
            RAM, len(data), lambda _, count, at, __: data[at : at + count], True
        )
        self.format = replace(format_of(Architecture.X86_64), **other)
        space = AddressSpace(self.prog, self.format, ROOT, lambda: self.now)
        self._reader = space.reader(START)

    def _read_table(self, address: int, count: int, at: int, _: bool) -> bytes:
        self.reads.append(address)
        table = address & -PAGE
        if table not in self.tables:
            raise FaultError("no such table", address)
        raw = struct.pack(f"{self.format.order}512Q", *self.tables[table])
        return raw[address - table : address - table + count]

    def map(self, address: int, entry: int, last: int = 12) -> int:
        """Make an entry for an address, and the tables above; return its table."""
        table = ROOT
        for shift in (39, 30, 21, 12):
            index = address >> shift & 511
            if shift == last:
                self.tables[table][index] = entry
                return table
            if not self.tables[table][index]:
                new = max(self.tables) + PAGE
                self.tables[new] = [0] * 512
                self.tables[table][index] = new | PRESENT
            table = self.tables[table][index] & -PAGE
        raise AssertionError(last)

    def read(self, address: int, count: int) -> bytes:
        return self._reader(address, count, address - START, False)


def page(number: int) -> bytes:
    return struct.pack("<I", number) * (PAGE // 4)


def ram(number: int) -> int:
    return RAM + number * PAGE | PRESENT


def with_pages(made: Machine, mark: int = 0) -> Machine:
    # The last two lie behind one another, and the tables of the two halves do not.
    for index, number in enumerate((5, 3, 9, 10)):
        made.map(BASE + HUGE + (index - 2) * PAGE, ram(number) ^ mark)
    return made


@pytest.fixture
def machine() -> Machine:
    return with_pages(Machine())


HIGH = AddressBits(((1 << 52) - 1) & ~(PAGE - 1) & ~RAM, 0x200, 11)
"""Its lowest bit of RAM's address is further down, as some are on arm64."""


@pytest.mark.parametrize(
    "machine",
    [
        with_pages(Machine()),
        with_pages(Machine(order=">")),
        with_pages(Machine(frame=HIGH), RAM ^ HIGH.high_mask),
    ],
    ids=("plain", "of the other byte order", "with high bits elsewhere"),
)
def test_reads_of_any_length(machine: Machine) -> None:
    """Within a page and across, wherever it begins and ends, and across tables."""
    whole = b"".join(map(page, (5, 3, 9, 10)))
    start = BASE + HUGE - 2 * PAGE
    for begin in (0, 1, PAGE - 1, PAGE, 2 * PAGE - 4, 3 * PAGE + 8):
        for size in (1, 8, PAGE, PAGE + 1, 2 * PAGE + 7, len(whole)):
            end = min(begin + size, len(whole))
            assert machine.read(start + begin, end - begin) == whole[begin:end]


def test_holes_are_faults(machine: Machine) -> None:
    """The address of a fault is the first that cannot be read."""
    start, end = BASE + HUGE - 2 * PAGE, BASE + HUGE + 2 * PAGE
    for address, count, first in (
        (end, 1, end),
        (end + 5, 1, end + 5),
        (start + 100, 5 * PAGE, end),
        (start - 8, 16, start - 8),
        (BASE + (1 << 30), 8, BASE + (1 << 30)),
        (1 << 50, 8, 1 << 50),
    ):
        with pytest.raises(FaultError, match="nothing is mapped") as found:
            machine.read(address, count)
        assert found.value.address == first


def test_what_is_no_ram_is_never_read(machine: Machine) -> None:
    """A device's memory is a fault, by the address that led there."""
    device = RAM + RAM_PAGES * PAGE
    machine.map(BASE, device | PRESENT)
    with pytest.raises(FaultError, match=f"{device + 8:#x}, which is no RAM") as found:
        machine.read(BASE + 8, 8)
    assert found.value.address == BASE + 8
    machine.map(BASE, ram(RAM_PAGES - 1))
    machine.map(BASE + PAGE, device | PRESENT)
    with pytest.raises(FaultError) as found:
        machine.read(BASE, 2 * PAGE)
    assert found.value.address == BASE + PAGE


def test_lost_tables_are_faults(machine: Machine) -> None:
    """What a table that cannot be read maps is not known."""
    table = machine.map(BASE + HUGE, ram(9))
    del machine.tables[table]
    with pytest.raises(FaultError) as found:
        machine.read(BASE + HUGE + 8, 8)
    assert found.value.address == BASE + HUGE + 8


def test_huge_pages(machine: Machine) -> None:
    """An upper entry may lead to memory at once, and another one be of many of these."""
    # No RAM is that large here: what matters is where it leads.
    for shift, address, phys in (
        (21, BASE + 4 * HUGE, 0x40000000),
        (30, BASE + (3 << 30), 0x80000000),
    ):
        machine.map(address, phys | PRESENT | LEAF, shift)
        machine.now += 1
        for inside in (8, (1 << shift) - 8, (1 << shift) // 2 + PAGE):
            with pytest.raises(FaultError, match=f"{phys + inside:#x}"):
                machine.read(address + inside, 8)


def test_entries_of_pages_are_read_each_time(machine: Machine) -> None:
    """What a live kernel maps anew is seen at once; upper tables are kept for a moment."""
    address = BASE + HUGE
    assert machine.read(address, 4) == page(9)[:4]
    machine.map(address, ram(20))
    machine.reads.clear()
    assert machine.read(address, 4) == page(20)[:4]
    assert len(machine.reads) == 1
    machine.map(address, 0)
    with pytest.raises(FaultError):
        machine.read(address, 4)
    machine.map(address, PRESENT | LEAF, 21)
    machine.now += 1
    assert machine.read(address + RAM + 3 * PAGE, 4) == page(3)[:4]
    machine.map(address, 0, 21)
    with pytest.raises(FaultError):
        machine.read(address + RAM + 3 * PAGE, 4)


@pytest.mark.parametrize("regions", [1, 2, 9])
def test_moved_tables_are_seen_soon(machine: Machine, regions: int) -> None:
    """However many upper tables were read: where a table is now is seen in a moment."""
    places = [BASE + HUGE + (number << 30) for number in range(regions)]
    for place in places:
        machine.map(place, ram(20))
        assert machine.read(place, 4) == page(20)[:4]
    machine.now += 1
    assert machine.read(places[0], 4) == page(20)[:4]
    upper = machine.map(places[-1], 0, 21)
    machine.map(places[-1], ram(7))
    machine.now += 1
    assert machine.read(places[-1], 4) == page(7)[:4]
    assert machine.read(BASE + HUGE - PAGE, 4) == page(3)[:4]
    del machine.tables[upper]
    machine.now += 1
    with pytest.raises(FaultError) as found:
        machine.read(places[-1], 4)
    assert found.value.address == places[-1]


@pytest.mark.parametrize("last", [21, 30, 39])
def test_tables_that_nothing_leads_to(machine: Machine, last: int) -> None:
    """A table is not believed for being what it was, if what led to it is not."""
    address = BASE + HUGE
    assert machine.read(address, 4) == page(9)[:4]
    machine.map(address, 0, last)
    machine.map(address, ram(20))
    machine.now += 1
    assert machine.read(address, 4) == page(20)[:4]


def test_what_is_compared_is_bounded(machine: Machine) -> None:
    """However much was looked at that led nowhere, it is not all read again."""
    for number in range(2, 100):
        machine.map(BASE + (number << 30), 0, 21)
        with pytest.raises(FaultError):
            machine.read(BASE + (number << 30), 4)
    machine.now += 1
    machine.reads.clear()
    assert machine.read(BASE + HUGE, 4) == page(9)[:4]
    assert len(machine.reads) < 20


def test_new_tables_are_seen_at_once(machine: Machine) -> None:
    """What is kept is where tables are, not that there was none."""
    address = BASE + 2 * HUGE
    for count in (4, 2 * PAGE):
        with pytest.raises(FaultError):
            machine.read(address, count)
    machine.map(address, ram(20))
    machine.map(address + PAGE, ram(7))
    assert machine.read(address, 4) == page(20)[:4]
    assert machine.read(address, 2 * PAGE) == page(20) + page(7)


@pytest.mark.parametrize(
    "arch",
    [
        Architecture.X86_64,
        Architecture.AARCH64,
        Architecture.PPC64,
        Architecture.S390X,
    ],
)
def test_formats_take_single_entries(arch: Architecture) -> None:
    """A format says the same of an int as of an array."""
    format_ = format_of(arch)
    entries = [0, 1, 3, 0x81, 0x620, (1 << 64) - 1, 0xC000000012345003, 0xFFFF12345F07]
    array = np.array(entries, np.uint64)
    for last in (False, True):
        found = [bool(format_.present(entry, last)) for entry in entries]
        assert found == format_.present(array, last).tolist()
    for shift in format_.shifts[:-1]:
        found = [bool(format_.leaf(entry, shift)) for entry in entries]
        assert found == format_.leaf(array, shift).tolist()
    for read in (format_.table, format_.frame):
        assert [int(read(entry)) for entry in entries] == read(array).tolist()


def kcore_file(path: Path) -> Path:
    """Write a /proc/kcore as x86-64 has: text, vmalloc, modules, RAM and its structs."""
    none = (1 << 64) - 1
    loads = [
        (0xFFFFFFFF81000000, 0x1000000, 512 << 20),
        (BASE, none, (32 << 40) - 1),
        (0xFFFFFFFFC0000000, none, 1 << 30),
        (0xFFFF888000001000, 0x1000, 600 << 10),
        (0xFFFFEA0000000000, none, 12 << 10),
        (0xFFFF888000100000, 0x100000, 1 << 30),
        (0xFFFFEA0000004000, none, 16 << 20),
    ]
    headers = elf_headers(
        [
            Segment(PAGE * (i + 1), at, phys, size, size)
            for i, (at, phys, size) in enumerate(loads)
        ]
    )
    path.write_bytes(headers.ljust(4 * PAGE, b"x"))
    return path


def test_spaces_of_kcore(tmp_path: Path) -> None:
    """Vmalloc and module space are read by mappings; the struct pages are left alone."""
    with Kcore(PAGE, str(kcore_file(tmp_path / "kcore"))) as kcore:
        assert kcore.mapped_spaces() == [
            Space(BASE, (32 << 40) - 1, 2 * PAGE),
            Space(0xFFFFFFFFC0000000, 1 << 30, 3 * PAGE),
        ]
        assert kcore.read_bytes(PAGE, 100) == b"x" * 100
        assert kcore.read_bytes(4 * PAGE - 8, 100) == b"x" * 8


def test_vmcores_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is no running kernel of this machine, drgn reads page tables already."""
    prog = FakeKernel([]).program()
    assert not direct_reads(prog) and not use_direct_reads(prog, False)
    assert run("direct", prog, []) == run("direct", prog, ["off"]) == 0
    assert "by page table already" in capsys.readouterr().out
    direct.switch_on(prog)
    assert capsys.readouterr() == ("", "")


def test_scripts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A script is run as drgn would: with its arguments, its folder and the program."""
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, beside\n"
        "print(__name__, sys.argv[1:], prog is sys.the_prog, beside.NAME)\n"
        "sys.exit(7)\n"
    )
    prog = FakeKernel([]).program()
    monkeypatch.setattr(sys, "argv", ["vmap_direct.py"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "the_prog", prog, raising=False)
    with pytest.raises(SystemExit) as ended:
        direct.run_script(prog, [str(script), "--an", "argument"])
    assert ended.value.code == 7
    out = capsys.readouterr().out
    assert out == "__main__ ['--an', 'argument'] True beside\n"


@pytest.mark.parametrize("argv", [[], ["/nonexistent"], [__file__]])
def test_scripts_that_cannot_be_run(
    argv: List[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No script, none that is there, or no kernel: one line, and exit status 2."""
    prog: Optional[Program] = None
    with pytest.raises(SystemExit) as ended:
        direct.run_script(prog, argv)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith("vmap direct: ")


def test_views_through_drgn(machine: Machine) -> None:
    """Pages are what the program reads, or nothing."""
    machine.prog.add_memory_segment(
        BASE, 1 << 40, lambda at, count, *_: machine.read(at, count)
    )
    through = ThroughDrgn(machine.prog, PAGE)
    addresses = np.array([BASE + HUGE, BASE, BASE + HUGE + PAGE], np.uint64)
    offsets = through.virtual_offsets(addresses)
    rows = np.zeros((3, PAGE // 8), np.uint64)
    assert through.read(offsets, rows).tolist() == [True, False, True]
    assert rows[0].tobytes() + rows[2].tobytes() == page(9) + page(10)
