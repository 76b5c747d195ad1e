# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names of callers, where the kernel prints other names than it has symbols."""

from types import SimpleNamespace
from typing import Any, Optional

import pytest
from drgn import Program

from drgn_vmap._numpy import np
from drgn_vmap.kernel.types.kallsyms import Kallsyms
from drgn_vmap.kernel.types.names import PackedNames, PlainNames
from drgn_vmap.kernel.vmalloc.callers import CallerNames, prints_names
from tests.fakes.kallsyms import TOKENS, table

STEXT = 0xFFFFFFFF81000000
NAMES = b"\nT_stext\ntstack.llvm.9746\ntcold.isra.0\nT_end\n"
SIZE = 0x100


def target(function: Optional[bool], has_nodes: bool) -> Any:
    """
    :param function: Whether what leaves it out is there; None if nothing tells.
    """
    starts = np.uint64(STEXT) + np.arange(4, dtype=np.uint64) * np.uint64(SIZE)
    return SimpleNamespace(
        carried=SimpleNamespace(kallsyms=Kallsyms(starts, PlainNames(NAMES))),
        vmcoreinfo=SimpleNamespace(symbols={"_stext": STEXT}),
        memory=None,
        functions=SimpleNamespace(
            has=lambda *names: function is True, knows=lambda name: function is not None
        ),
        kernel=SimpleNamespace(has_nodes=has_nodes),
    )


@pytest.mark.parametrize(
    "function, has_nodes, promoted",
    [
        (True, False, "stack"),
        (True, True, "stack"),
        (False, False, "stack.llvm.9746"),
        (None, False, "stack"),
        (None, True, "stack.llvm.9746"),
    ],
)
def test_promoted(function: Optional[bool], has_nodes: bool, promoted: str) -> None:
    """What LLVM put behind a name is left out where the kernel does so."""
    addresses = [STEXT + SIZE + 0x10, STEXT + 2 * SIZE + 0x20]
    texts = CallerNames(target(function, has_nodes)).texts(addresses)
    assert list(texts.values()) == [f"{promoted}+0x10/0x100", "cold.isra.0+0x20/0x100"]


@pytest.mark.parametrize(
    "function, expected", [(True, True), (False, False), (None, True)]
)
def test_prints_names(function: Optional[bool], expected: bool) -> None:
    """A kernel prints addresses only where it is known to have nothing that prints names."""
    assert prints_names(target(function, False)) == expected


@pytest.mark.parametrize(
    "names, found",
    [
        (b"\nT_stext\nbpages.llvm.9746\nbpages_used\nT_end\n", ["pages.llvm.9746"]),
        (b"\nT_stext\nbpages.llvm.9746\nbpages\nT_end\n", ["pages"]),
        (b"\nT_stext\nbpages.llvm.9746\nbpages.llvm.1\nT_end\n", []),
        (b"\nT_stext\nbpages.0\nbpages_used\nT_end\n", []),
    ],
)
def test_promoted_by_name(names: bytes, found: "list[str]") -> None:
    """A variable is found by what its source calls it, if that is only one."""
    starts = np.uint64(STEXT) + np.arange(4, dtype=np.uint64) * np.uint64(SIZE)
    packed_names = PackedNames(table(names.split(b"\n")[1:-1], "<"), 4, TOKENS, "<")
    for some in (PlainNames(names), packed_names):
        symbols = Kallsyms(starts, some).find(Program(), "pages", None, False)
        assert [symbol.name for symbol in symbols] == found
