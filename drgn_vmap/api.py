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

from .kernel.memory.direct import direct_reads
from .kernel.target import Target
from .kernel.types import module_types
from .kernel.vmalloc import snapshot
from .model.areas import Snapshot

__all__ = (
    "has_old_area_flags",
    "load_module_types",
    "load_types",
    "take_snapshot",
    "use_direct_reads",
)


_OLD_FLAGS = "drgn_vmap.has_old_area_flags"


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


def has_old_area_flags(prog: Program) -> bool:
    """Return whether vmap_area.flags are those of before 5.4; helpers ask for each area."""
    if _OLD_FLAGS not in prog.cache:
        with Target(prog) as target:
            prog.cache[_OLD_FLAGS] = target.layout.has_old_flags
    return bool(prog.cache[_OLD_FLAGS])


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


@takes_program_or_default
def use_direct_reads(prog: Program, on: bool = True) -> bool:
    """
    Have drgn itself read vmalloc space of the running kernel right, modules and per-CPU
    memory included: prog.read(), Objects, helpers and whatever else reads memory.

    drgn reads it through /proc/kcore, whose reader returns zeros, or another page's bytes,
    of what vm_map_ram() mapped. From now on, each address is looked up in the kernel's page
    table, and RAM is read. What is not mapped, or is no RAM, is a ``FaultError``, as in a
    vmcore; no device is read.

    >>> use_direct_reads()
    True

    :param on: False to read through /proc/kcore again.
    :return: Whether that is for us to say. Of vmcores, and of other machines' kernels, drgn
        reads page tables by itself, and nothing changes.
    :raises TargetError: if its page tables cannot be read.
    """
    return direct_reads(prog, on)
