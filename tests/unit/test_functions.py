# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tells of functions and parameters where there is no DWARF."""

from __future__ import annotations

import pytest
from drgn import Program, Type, TypeMember

from drgn_vmap.kernel.doors import Values
from drgn_vmap.kernel.functions import VmallocFunctions
from tests.fakes.kernel import FakeKernel


class MixedKernel(FakeKernel):
    """A kernel whose structs have the given members, each of a word."""

    def __init__(self, **members: str) -> None:
        super().__init__([])
        self._members = members

    def _types(self, prog: Program) -> dict[str, Type]:
        types = super()._types(prog)
        word = types["unsigned long"]
        for tag, member in self._members.items():
            types[tag] = prog.struct_type(tag, 8, [TypeMember(word, member, 0)])
        return types


@pytest.mark.parametrize(
    "members, early",
    [
        # As in 6.1, in 6.6.37, in 6.9, and since 6.10.
        ({}, False),
        ({"vmap_block": "cpu"}, False),
        ({"vmap_node": "busy"}, False),
        ({"vmap_block": "cpu", "vmap_node": "busy"}, True),
    ],
)
def test_vm_is_set_early(members: dict[str, str], early: bool) -> None:
    """A member that stable kernels took without the rest is no sign by itself."""
    functions = VmallocFunctions(Values(MixedKernel(**members).program()), False)
    assert functions.has_parameter("alloc_vmap_area", "vm") == early
