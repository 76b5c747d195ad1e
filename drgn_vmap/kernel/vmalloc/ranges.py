# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Ranges
------

Where vmalloc space begins and ends. VMALLOC_START and VMALLOC_END are macros, so
they are taken from where the kernel noted them down.
"""

from typing import Callable, Mapping, Optional, Tuple

from drgn import Architecture

from ...errors import Fault, SymbolsError
from ...model.space import VmallocRange
from ..doors import door
from ..target import Target
from ..types.structs import need_offset, record_dtype

__all__ = ("SPACES", "module_range", "vmalloc_range")

# VMALLOC_SIZE_TB of arch/x86/include/asm/pgtable_64_types.h, with 4 and 5 levels
# of page tables.
_X86_64_IMAGE = 0xFFFFFFFF80000000
"""__START_KERNEL_map."""
_X86_64_MODULES_END = 0xFFFFFFFFFF000000
_X86_64_SIZE = {False: 32 << 40, True: 12800 << 40}


def vmalloc_range(target: Target) -> VmallocRange:
    """
    Find vmalloc space.

    :raises SymbolsError: if nothing in the target tells.
    """
    for source in (_from_kcore, _from_vmcoreinfo, _from_variables):
        try:
            found = source(target)
        except Fault:
            continue  # Another may be left.
        if found is not None and found[0] < found[1] < 1 << 64:
            start, limit = found
            end = -(-limit // target.page_size) * target.page_size
            return VmallocRange(start, end, limit)
    raise SymbolsError(
        "where vmalloc space begins and ends is not known: install the kernel's "
        "debug info, or name its vmlinux with drgn -s"
    )


def module_range(target: Target) -> VmallocRange:
    """
    Find what the kernel may load modules into.

    :raises SymbolsError: if nothing in the target tells.
    """
    for source in (_from_execmem, _from_x86_64, _from_arm64):
        try:
            found = source(target)
        except Fault:
            continue  # Another may be left.
        if found is not None and found[0] < found[1] < 1 << 64:
            return VmallocRange(*found, found[1])
    # Others take it of vmalloc space, and so does what gives no range to execmem.
    arch = target.prog.platform and target.prog.platform.arch
    if arch in (Architecture.X86_64, Architecture.AARCH64):
        raise SymbolsError(
            "where modules go is not known: install the kernel's debug info, or name "
            "its vmlinux with drgn -s"
        )
    return vmalloc_range(target)


def _from_execmem(target: Target) -> Optional[Tuple[int, int]]:
    """
    Take what modules' code is allocated from.

    Since Linux kernel commit 223b5e57d0d5 ("mm/execmem, arch: convert remaining overrides
    of module_alloc to execmem") (in v6.10).
    """
    with door():
        places = {int(one.address) for one in target.prog.symbols("execmem_info")}
    # A pointer has this name, and on most architectures also what it points to.
    pointers = [target.memory.word(place) for place in sorted(places)]
    found = [pointer for pointer in pointers if pointer in places or len(places) == 1]
    if len(found) != 1:
        return None
    first = found[0] + need_offset(target.prog, "struct execmem_info", "ranges")
    members = {"start": "start", "end": "end"}
    dtype = record_dtype(target.prog, "struct execmem_range", members)
    range_ = target.memory.record(first, dtype)
    start, last = int(range_["start"]), int(range_["end"])
    # Some give the last byte, others the one behind it.
    return (start, -(-last // target.page_size) * target.page_size) if last else None


def _from_x86_64(target: Target) -> Optional[Tuple[int, int]]:
    """Take module_alloc()'s: behind the kernel image, from where it was told to begin."""
    numbers, platform = target.vmcoreinfo.numbers, target.prog.platform
    size = numbers.get("KERNEL_IMAGE_SIZE")
    if platform is None or platform.arch != Architecture.X86_64 or size is None:
        return None
    # With KASLR, kernel/module.c of x86 draws it when the first module is loaded.
    offset = target.values.number(lambda prog: prog["module_load_offset"]) or 0
    return _X86_64_IMAGE + size + offset, _X86_64_MODULES_END


def _from_arm64(target: Target) -> Optional[Tuple[int, int]]:
    """Take MODULES_VADDR and MODULES_END, which VMCOREINFO has."""
    numbers = target.vmcoreinfo.numbers
    start, end = numbers.get("MODULES_VADDR"), numbers.get("MODULES_END")
    return None if start is None or end is None else (start, end)


def _from_kcore(target: Target) -> Optional[Tuple[int, int]]:
    """Take the part of /proc/kcore that proc_kcore_init() makes for vmalloc."""
    start, size = (
        target.values.number(
            lambda prog: prog.variable("kcore_vmalloc", "fs/proc/kcore.c").member_(name)
        )
        for name in ("addr", "size")
    )
    return (start, start + size) if start is not None and size else None


def _from_vmcoreinfo(target: Target) -> Optional[Tuple[int, int]]:
    """Take what some architectures write into VMCOREINFO."""
    numbers = target.vmcoreinfo.numbers
    start, end = numbers.get("VMALLOC_START"), numbers.get("VMALLOC_END")
    return None if start is None or end is None else (start, end)


def _from_variables(target: Target) -> Optional[Tuple[int, int]]:
    """Take variables of x86-64 (vmalloc_base), or ppc64 and s390x."""
    values, platform = target.values, target.prog.platform
    if platform is not None and platform.arch == Architecture.X86_64:
        start = values.number(lambda prog: prog["vmalloc_base"])
        five_levels = target.vmcoreinfo.numbers.get("pgtable_l5_enabled") == 1
        return None if start is None else (start, start + _X86_64_SIZE[five_levels] - 1)
    start = values.number(lambda prog: prog["__vmalloc_start"])
    end = values.number(lambda prog: prog["__vmalloc_end"])
    return None if start is None or end is None else (start, end)


SPACES: Mapping[str, Callable[[Target], VmallocRange]] = {
    "vmalloc": vmalloc_range,
    "module": module_range,
}
"""What finds each space that areas are made in."""
