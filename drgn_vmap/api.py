# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
API
---

What the verbs are made of, for scripts and for drgn's prompt: each function takes the
program that drgn opened, or its default one, as drgn's own helpers do.
"""

# First, as it says so if drgn is too old for the others.
from . import kernel  # noqa: F401  # isort: skip

from drgn import Program
from drgn.helpers.common.prog import takes_program_or_default

from .kernel.target import Target
from .kernel.types import module_types
from .kernel.vmalloc import snapshot
from .model.areas import Snapshot

__all__ = ("load_module_types", "load_types", "take_snapshot")


@takes_program_or_default
def take_snapshot(prog: Program, all_states: bool = False) -> Snapshot:
    """
    Read the vmalloc state of a kernel.

    :param all_states: Also read ranges that are being purged, pooled or free.
    :raises VmapError: if the target is none that can be read.
    """
    with Target(prog) as target:
        return snapshot.take_snapshot(target, all_states)


@takes_program_or_default
def load_types(prog: Program) -> str:
    """
    Let a program know its kernel's types and variables, without debug info if there is
    none.

    :return: Where they come from: ``dwarf``, ``btf``, or the name of the type finder that
        somebody else registered.
    :raises VmapError: if it is no Linux kernel, or has neither.
    """
    with Target(prog) as target:
        return target.symbols


@takes_program_or_default
def load_module_types(prog: Program, name: str) -> None:
    """
    Let a program know the types that a loaded module has beside the kernel's.

    >>> load_module_types("virtio_blk")
    >>> prog.type("struct virtblk_req").size
    40

    :param name: Of the module, as lsmod shows it.
    :raises SymbolsError: if the module is not loaded, has no BTF, or if that is
        damaged.
    """
    with Target(prog):
        module_types.load_module_types(prog, name)
