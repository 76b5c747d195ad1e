# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The kernels built here read what vm_map_ram() mapped as they were made to.

Pages come from /proc/kcore without drgn_vmap, and are compared with what the fixture
module put there.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator

import pytest

from .guest import Guest
from .kernels import BUILT_KERNELS, OFFERED_KERNELS
from .marks import on_built_kernels
from .truth import Mapping, Truth, page_bytes

PAGE = 4096
BLOCK = 1024 * PAGE
"""Of a vmap_block where CONFIG_NR_CPUS is 64."""
KUNIT_TEST = re.compile(r"(not ok|ok) \d+ (vread_\w+)")
OF_BLOCKS = {"page", "part_of_page", "across_pages", "hole"}


def vm_map_ram_of(guest: Guest) -> list[Mapping]:
    truth = Truth.parse(guest.read("/proc/vmap_lab").decode())
    return [m for m in truth.mappings if m.kind == "vm_map_ram" and m.live]


def addresses(mapping: Mapping) -> Iterator[int]:
    return (mapping.address + index * PAGE for index in range(mapping.pages))


def read_kcore(guest: Guest, wanted: list[int]) -> list[bytes]:
    """Return the page of /proc/kcore at each address."""
    guest.write("/tmp/wanted", "".join(f"{a:#x}\n" for a in wanted).encode())
    read = "python3 tests/lab/inside/read_kcore.py </tmp/wanted"
    data = guest.run(read).stdout
    assert len(data) == len(wanted) * PAGE
    return [data[start : start + PAGE] for start in range(0, len(data), PAGE)]


def contents(mapping: Mapping) -> list[bytes]:
    assert mapping.fill is not None
    return [page_bytes(mapping.fill, index, PAGE) for index in range(mapping.pages)]


def first_used(mappings: Iterable[Mapping]) -> dict[int, Mapping]:
    """Return the mapping that comes first in each block, by the block's number."""
    first: dict[int, Mapping] = {}
    for mapping in sorted(mappings, key=lambda m: m.address):
        first.setdefault(mapping.address // BLOCK, mapping)
    return first


@on_built_kernels
@pytest.mark.parametrize("area", ["own", "block"])
def test_what_kcore_says_of_vm_map_ram(module_guest: Guest, area: str) -> None:
    """Zeros, or a block's first used page again and again, or the page itself."""
    mappings = [m for m in vm_map_ram_of(module_guest) if m.area == area]
    wanted = [address for mapping in mappings for address in addresses(mapping)]
    right = [page for mapping in mappings for page in contents(mapping)]
    first = first_used(mappings)
    again = [contents(first[address // BLOCK])[0] for address in wanted]
    expected = {
        "6.1-plain": [bytes(PAGE)] * len(wanted),
        "6.1-series": right if area == "own" else again,
        "6.1-fixed": right,
    }
    assert len(wanted) > 400
    assert read_kcore(module_guest, wanted) == expected[module_guest.kernel.name]


@on_built_kernels
def test_unused_pages_of_a_block(module_guest: Guest) -> None:
    """Freed pages read as zeros, unless the block's first used page takes over."""
    truth = Truth.parse(module_guest.read("/proc/vmap_lab").decode())
    in_blocks = [m for m in truth.mappings if m.area == "block"]
    first = first_used(m for m in in_blocks if m.live)
    freed = [
        address
        for mapping in in_blocks
        for address in addresses(mapping)
        if not mapping.live
        and address // BLOCK in first
        and address > first[address // BLOCK].address
    ]
    assert len(freed) > 100
    expected = {
        "6.1-plain": [bytes(PAGE)] * len(freed),
        "6.1-series": [contents(first[address // BLOCK])[0] for address in freed],
        "6.1-fixed": [bytes(PAGE)] * len(freed),
    }
    assert read_kcore(module_guest, freed) == expected[module_guest.kernel.name]


@pytest.mark.parametrize("kernel", [*BUILT_KERNELS, *OFFERED_KERNELS])
def test_kunit(kernel: str) -> None:
    """The test that is offered with the fix passes with it, and not without it."""
    with Guest.boot(kernel, append="kunit.enable=1", debug_info=False) as guest:
        log = guest.run("dmesg").stdout.decode()
    found = {name: verdict for verdict, name in KUNIT_TEST.findall(log)}
    of_blocks = "ok" if kernel.endswith("-fixed") else "not ok"
    expected = {f"vread_block_{name}": of_blocks for name in OF_BLOCKS}
    assert found == {**expected, "vread_vmalloc": "ok"}
