# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
One opened target, and the doors by which its values enter: what is damaged becomes a
Fault or is as good as not there, and nothing that drgn raises comes through.
"""

from typing import Callable, Dict, List

import pytest
from drgn import Object, Program

from drgn_vmap import take_snapshot
from drgn_vmap._numpy import np
from drgn_vmap.errors import Fault, SymbolsError, TargetError
from drgn_vmap.kernel.doors import Values
from drgn_vmap.kernel.memory.cpus import per_cpu_addresses
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.types.vmcoreinfo import Vmcoreinfo
from tests.fakes.kernel import BASE, PAGE, FakeKernel
from tests.fakes.series import SeriesKernel

NOWHERE = 0xDEAD000000000000


@pytest.mark.parametrize(
    "line, symbols, numbers, notes",
    [
        ("SYMBOL(_stext)=ffffffff81000000", {"_stext": 0xFFFFFFFF81000000}, {}, {}),
        ("NUMBER(VA_BITS)=48", {}, {"VA_BITS": 48}, {}),
        ("NUMBER(PAGE_BUDDY)=-129", {}, {"PAGE_BUDDY": -129}, {}),
        ("NUMBER(VMALLOC_START)=0xffff80008", {}, {"VMALLOC_START": 0xFFFF80008}, {}),
        ("OSRELEASE=6.1.0", {}, {}, {"OSRELEASE": "6.1.0"}),
        # What no kernel writes.
        ("SYMBOL(_stext)=ffffffff810000000", {}, {}, {}),
        ("SYMBOL(_stext)=-1", {}, {}, {}),
        ("SYMBOL(_stext)=", {}, {}, {}),
        ("NUMBER(VA_BITS)=" + "9" * 400, {}, {}, {}),
        ("NUMBER(VA_BITS)=4_8", {}, {}, {}),
        ("NUMBER(VA_BITS)=048", {}, {}, {}),
        ("NUMBER(VA_BITS)=0x", {}, {}, {}),
        ("NUMBER(VA_BITS", {}, {}, {}),
        ("\x00\xff", {}, {}, {}),
    ],
)
def test_lines_of_vmcoreinfo(
    line: str, symbols: Dict[str, int], numbers: Dict[str, int], notes: Dict[str, str]
) -> None:
    """Each line is a symbol, a number, a note, or as good as none."""
    found = Vmcoreinfo(f"CRASHTIME=1\n{line}\n".encode())
    assert (found.symbols, found.numbers) == (symbols, numbers)
    assert found.notes == {"CRASHTIME": "1", **notes}


@pytest.mark.parametrize(
    "text, size",
    [
        ("4096", 4096),
        ("65536", 65536),
        ("1", None),
        ("0", None),
        ("4097", None),
        ("8", None),
        ("-4096", None),
        ("4096.0", None),
        ("0x1000", None),
        ("9" * 400, None),
    ],
)
def test_page_sizes(text: str, size: int) -> None:
    """Only sizes that pages can have are taken for one."""
    assert Vmcoreinfo(f"PAGESIZE={text}\n".encode()).page_size == size


def test_no_page_size() -> None:
    """Nothing can be read in pages of one byte: one error says so at once."""
    kernel = FakeKernel([])
    kernel.vmcoreinfo = "PAGESIZE=1\n"
    with pytest.raises(TargetError, match="size that pages can have: take a vmcore"):
        Target(kernel.program())


@pytest.fixture
def values() -> Values:
    kernel = SeriesKernel()
    kernel.variables["lost"] = ("vmap_area", NOWHERE)
    return Values(kernel.program())


def test_what_a_kernel_lacks_is_none(values: Values) -> None:
    """No variable, no member, no constant, no address."""
    assert values.number(lambda prog: prog["none"]) is None
    assert values.number(lambda prog: prog["vmap_area_list"].none) is None
    assert values.number(lambda prog: prog.constant("NONE")) is None
    assert values.number(lambda prog: Object(prog, "unsigned long")) is None
    assert values.address("none") is None
    assert values.address("none", "mm/vmalloc.c") is None
    assert values.text(lambda prog: prog["none"]) is None
    assert values.bits(lambda prog: prog["none"].bits) is None
    with pytest.raises(SymbolsError, match="none is not known.*: install"):
        values.need("none", None)


def _adds_text(prog: Program) -> Object:
    return Object(prog, "unsigned long", 1) + "x"


@pytest.mark.parametrize(
    "expression",
    [
        lambda prog: prog["lost"].va_start,
        lambda prog: Object(prog, "struct vmap_area", address=(1 << 64) - 8).va_end,
        lambda prog: Object(prog, "unsigned long", address=1 << 80),
        _adds_text,
    ],
)
def test_what_cannot_be_read_is_a_fault(
    values: Values, expression: Callable[[Program], Object]
) -> None:
    """Whatever drgn raises, one kind of error comes through the door."""
    with pytest.raises(Fault):
        values.number(expression)


@pytest.mark.parametrize(
    "address, size", [(NOWHERE, 8), (-8, 8), (1 << 64, 8), (BASE, -1), (BASE, 1 << 40)]
)
def test_bytes_that_are_not_there(address: int, size: int) -> None:
    """No address and no size, however absurd, is more than a Fault."""
    memory = Target(FakeKernel([]).program()).memory
    with pytest.raises(Fault):
        memory.read(address, size)


def test_records_near_the_top() -> None:
    """An address whose record wraps around holds none; its neighbour is there."""
    memory = Target(FakeKernel([]).program()).memory
    wanted = np.array([BASE, (1 << 64) - 4, (1 << 64) - PAGE], np.uint64)
    _, ok = memory.records(wanted, np.dtype("<u8"))
    assert ok.tolist() == [True, False, False]


@pytest.mark.parametrize("cpus", [[0], [0, 1]])
def test_offsets_of_cpus(values: Values, cpus: List[int]) -> None:
    """A kernel of one CPU needs no offsets; of more, their lack is told."""
    own = values.address("vmap_block_queue")
    if len(cpus) == 1:
        assert per_cpu_addresses(values, "vmap_block_queue", cpus) == {0: own}
    else:
        with pytest.raises(SymbolsError, match="__per_cpu_offset"):
            per_cpu_addresses(values, "vmap_block_queue", cpus)


def test_a_target_is_short_at_a_prompt() -> None:
    """Its repr is a line that says what is open."""
    with Target(SeriesKernel().program()) as target:
        assert repr(target) == "<Target 6.5.0-fake (vmcore, fake)>"


def test_drgns_default_program() -> None:
    """take_snapshot() takes no program for the one that drgn has by default."""
    from drgn import set_default_prog

    kernel = SeriesKernel()
    set_default_prog(kernel.program())
    try:
        assert len(take_snapshot().areas) == len(kernel.areas)
    finally:
        set_default_prog(None)
