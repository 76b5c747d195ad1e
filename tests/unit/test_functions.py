# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tells of functions and parameters where there is no DWARF."""

from __future__ import annotations

from typing import Any

import pytest
from drgn import Program, Type, TypeMember

from drgn_vmap.kernel.doors import Values
from drgn_vmap.kernel.functions import Functions
from drgn_vmap.kernel.types.carried import carried_by
from tests.fakes.code import program_with
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
    "members",
    [
        # As in 6.1 and RHEL 9, in 6.6.37, in 6.9, and in 6.9.10 and since 6.10.
        {},
        {"vmap_block": "cpu"},
        {"vmap_node": "busy"},
        {"vmap_block": "cpu", "vmap_node": "busy"},
    ],
)
def test_no_member_stands_for_a_parameter(members: dict[str, str]) -> None:
    """What stable and vendors' kernels took one without the other proves nothing."""
    functions = Functions(
        Values(MixedKernel(**members).program()), False, lambda name: []
    )
    assert not functions.has_parameter("alloc_vmap_area", "vm")


READER = "vmap_ram_vread_iter"


def functions_of(**more: Any) -> Functions:
    """Return the functions of a kernel without debug info."""
    prog = program_with(**more)
    return Functions(Values(prog), False, carried_by(prog).kallsyms.variants)


@pytest.mark.parametrize(
    "suffix",
    [".isra.0", ".constprop.12", ".part.0", ".llvm.1234567890", ".isra.0.constprop.0"],
)
def test_names_that_compilers_change(suffix: str) -> None:
    """What the compiler made of a function is that function."""
    found = functions_of(functions={READER + suffix: [], "vread_iter": []})
    assert found.has(READER) and not found.has("vmap_ram_vread")


@pytest.mark.parametrize("name", [".cold", "_more", ".isra.0.cold", ".isra"])
def test_other_names(name: str) -> None:
    """Code that is hardly ever run is none, nor is another one's name."""
    assert not functions_of(functions={READER + name: []}).has(READER)


@pytest.mark.parametrize("caller", ["vread_iter", "vread_iter.llvm.1"])
@pytest.mark.parametrize("callee", ["xa_load", "xa_load.constprop.0"])
@pytest.mark.parametrize("into_padding", [0, 10, 16])
def test_inlined(caller: str, callee: str, into_padding: int) -> None:
    """A call gives an inlined function away, also if it leads to a thunk before it."""
    code = {callee: [], caller: ["memcpy", callee], "memcpy": []}
    found = functions_of(functions=code, into_padding=into_padding)
    assert found.has(READER) and found.knows(READER)


def test_what_is_known_of_absence() -> None:
    """Without a call in it code tells that; code that cannot be followed tells nothing."""
    code = {"xa_load": [], "vread_iter": ["memcpy"], "memcpy": []}
    found = functions_of(functions=code)
    assert not found.has(READER) and found.knows(READER)
    for lost in (
        functions_of(functions=code, readable=False),
        # All calls lead to other places than functions.
        functions_of(functions=code, into_padding=0x80),
        functions_of(functions={**code, "vread_iter": []}),
        functions_of(functions={"vread_iter": ["memcpy"], "memcpy": []}),
    ):
        assert not lost.has(READER) and not lost.knows(READER)
