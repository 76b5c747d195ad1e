# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Each helper is the first thing that anybody does with a sample, which has no debug info;
what it finds is what the fixture module made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator

import pytest
from drgn import Program

from drgn_vmap.helpers import (
    find_vmap_block,
    for_each_valid_vmap_area,
    for_each_vmap_block,
    identify_vmap_address,
)
from tests.lab.truth import Mapping, Truth
from tests.samples import Sample, samples


@pytest.fixture(scope="module", params=samples(), ids=lambda sample: sample.name)
def unpacked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sample, Path]]:
    """Each sample, and where it is."""
    path = request.param.unpack(tmp_path_factory.mktemp("sample") / "slice")
    yield request.param, path
    path.unlink()


def in_an_area(prog: Program, mapping: Mapping) -> bool:
    """Return whether a mapping is the whole of one area that is found."""
    return any(
        va.va_start.value_() == mapping.address for va in for_each_valid_vmap_area(prog)
    )


def identified(prog: Program, mapping: Mapping) -> bool:
    """Return whether the second page of a mapping is found to be that."""
    found = identify_vmap_address(prog, mapping.address + 4096 + 1)
    return found is not None and (found.page_index, found.offset) == (1, 4097)


def in_a_block(prog: Program, mapping: Mapping) -> bool:
    """Return whether the block that a mapping is in is among all of them."""
    return any(
        vb.va.va_start.value_() <= mapping.address < vb.va.va_end.value_()
        for vb in for_each_vmap_block(prog)
    )


def found_in_a_block(prog: Program, mapping: Mapping) -> bool:
    """Return whether the block that a mapping is in is found."""
    va = find_vmap_block(prog, mapping.address).va
    return bool(va.va_start.value_() <= mapping.address < va.va_end.value_())


@pytest.mark.parametrize(
    "area, finds",
    [
        ("own", in_an_area),
        ("own", identified),
        ("block", in_a_block),
        ("block", found_in_a_block),
    ],
)
def test_nothing_ran_before(
    unpacked: tuple[Sample, Path],
    area: str,
    finds: Callable[[Program, Mapping], bool],
) -> None:
    """A helper needs nobody who loads types for it."""
    sample, path = unpacked
    mappings = Truth.parse(sample.truth).mappings
    wanted = [m for m in mappings if m.live and m.area == area and m.pages > 1]
    assert len(wanted) > 5
    for mapping in wanted[:2]:
        prog = Program()
        prog.set_core_dump(path)
        assert finds(prog, mapping), mapping
