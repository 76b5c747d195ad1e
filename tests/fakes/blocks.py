# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Blocks as a kernel's reader would return them, from a few words each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from drgn_vmap._numpy import Array, U64Array, np
from drgn_vmap.model.areas import Kernel, VmallocinfoRules
from drgn_vmap.model.blocks import NO_CPU, Blocks, BlockTable

BITS = 128
PAGE = 4096
START = 0xFFFFC90000080000
RULES = VmallocinfoRules(True, True, False, False, False, True, 16)


@dataclass(frozen=True)
class FakeBlock:
    """A block; ``#`` stands for a page that is used or mapped, ``.`` for another."""

    free: int
    dirty: int | None = None
    """By default what is neither used nor free."""

    used: str = ""
    mapped: str = ""
    dirty_min: int = BITS
    dirty_max: int = 0
    list_cpu: int | None = 0
    queue_cpu: int | None = None
    """By default the same."""

    mapped_known: bool = True


def fake_kernel(has_used_map: bool = True) -> Kernel:
    """A kernel that has all there is, or one before 6.3."""
    return Kernel(
        release="6.12.0-fake",
        layout="E" if has_used_map else "B",
        live=False,
        symbols="dwarf",
        page_size=PAGE,
        word_size=8,
        has_va_flags=has_used_map,
        has_nodes=has_used_map,
        numa_nodes=(),
        rules=RULES,
    )


def blocks_of(fakes: Sequence[FakeBlock], has_used_map: bool = True) -> Blocks:
    """Lay blocks out one behind the other."""
    count = len(fakes)
    start = _u64([START + index * BITS * PAGE for index in range(count)])
    used = _bits([fake.used if has_used_map else "" for fake in fakes])
    dirty = [
        BITS - fake.free - fake.used.count("#") if fake.dirty is None else fake.dirty
        for fake in fakes
    ]
    list_cpu = np.array([_cpu(fake.list_cpu) for fake in fakes], np.int64)
    table = BlockTable(
        address=_u64([0xFFFF888000001000 + 256 * index for index in range(count)]),
        area=_u64([0xFFFF888000008000 + 128 * index for index in range(count)]),
        start=start,
        end=start + np.uint64(BITS * PAGE),
        free=_u64([fake.free for fake in fakes]),
        dirty=_u64(dirty),
        dirty_min=_u64([fake.dirty_min for fake in fakes]),
        dirty_max=_u64([fake.dirty_max for fake in fakes]),
        used=used,
        mapped=_bits([fake.mapped for fake in fakes]),
        mapped_known=np.array([fake.mapped_known for fake in fakes], bool),
        xarray_cpu=np.zeros(count, np.int64),
        list_cpu=list_cpu,
        queue_cpu=np.array(
            [
                _cpu(fake.list_cpu if fake.queue_cpu is None else fake.queue_cpu)
                for fake in fakes
            ],
            np.int64,
        ),
    )
    return Blocks(fake_kernel(has_used_map), BITS, has_used_map, (0, 1), table)


def _u64(values: Sequence[int]) -> U64Array:
    return np.array(values, np.uint64)


def _cpu(cpu: int | None) -> int:
    return NO_CPU if cpu is None else cpu


def _bits(rows: Sequence[str]) -> Array:
    bits = np.zeros((len(rows), BITS), bool)
    for row, text in enumerate(rows):
        bits[row, : len(text)] = [character != "." for character in text]
    return bits
