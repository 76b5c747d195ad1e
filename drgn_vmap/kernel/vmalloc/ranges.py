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

from ...errors import GET_DEBUG_INFO, Fault, SymbolsError, TargetError
from ...model.areas import Problem, ProblemKind
from ...model.space import Space, VmallocRange
from ..doors import architecture_of
from ..memory.table_formats import has_five_levels
from ..target import Target
from .execmem import cached_ranges, execmem_ranges

__all__ = ("SPACES", "module_space", "vmalloc_range", "vmalloc_space")

# VMALLOC_SIZE_TB of arch/x86/include/asm/pgtable_64_types.h, with 4 and 5 levels
# of page tables.
_X86_64_IMAGE = 0xFFFFFFFF80000000
"""__START_KERNEL_map."""
_X86_64_MODULES_END = 0xFFFFFFFFFF000000
_X86_64_SIZE = {False: 32 << 40, True: 12800 << 40}
_ARM_OFFSET, _ARM_END = 8 << 20, 0xFF800000
"""VMALLOC_OFFSET and VMALLOC_END of 32-bit Arm."""
_ARM64_DIRECT, _ARM64_FALLBACK = 128 << 20, 2 << 30
_WITH_OWN_RANGE = (Architecture.X86_64, Architecture.AARCH64, Architecture.S390X)
_Ranges = Tuple[Tuple[int, int], ...]
"""In the order in which they are tried: where each starts, and ends."""


def vmalloc_range(target: Target) -> VmallocRange:
    """
    Find vmalloc space.

    :raises SymbolsError: if nothing in the target tells.
    """
    for source in (_from_kcore, _from_vmcoreinfo, _from_variables, _from_arm):
        try:
            found = source(target)
        except Fault:
            continue  # Another may be left.
        if found is not None and found[0] < found[1] < 1 << 64:
            start, limit = found
            end = -(-limit // target.page_size) * target.page_size
            return VmallocRange(start, end, limit)
    raise SymbolsError(
        f"where vmalloc space begins and ends is not known: {GET_DEBUG_INFO}"
    )


def vmalloc_space(target: Target) -> Space:
    """
    Find where vmalloc() looks for addresses.

    :raises SymbolsError: if nothing in the target tells.
    """
    found = vmalloc_range(target)
    return Space(found, (found,))


def module_space(target: Target) -> Space:
    """
    Find where the kernel looks for addresses of modules.

    :raises VmapError: if nothing in the target tells.
    """
    unread = None
    for source in (execmem_ranges, _from_x86_64, _from_arm64, _from_s390x):
        try:
            found = source(target)
        except Fault as e:
            unread = e
            continue  # Another may be left.
        if found and all(start < end < 1 << 64 for start, end in found):
            ranges = tuple(VmallocRange(start, end, end) for start, end in found)
            return _with_cache(target, ranges)
    if unread:
        raise TargetError(
            f"where modules go cannot be read ({unread.why}): take a whole vmcore, or a "
            "slice that this version of vmap made"
        )
    # Others take it of vmalloc space.
    if architecture_of(target.prog) in _WITH_OWN_RANGE:
        raise SymbolsError(
            "where modules go is not known: install the kernel's debug info, or name "
            "its vmlinux with -s"
        )
    return vmalloc_space(target)


def _with_cache(target: Target, ranges: Tuple[VmallocRange, ...]) -> Space:
    # All fallbacks that there are begin around the range before them, or touch it.
    start, end = min(one.start for one in ranges), max(one.end for one in ranges)
    whole = VmallocRange(start, end, end)
    try:
        return Space(whole, ranges, cached_ranges(target))
    except (Fault, SymbolsError) as e:
        why = e.why if isinstance(e, Fault) else str(e)
        what = Problem(ProblemKind.UNREADABLE, "what execmem keeps for code", why)
        return Space(whole, ranges, problems=(what,))


def _from_x86_64(target: Target) -> Optional[_Ranges]:
    """Take module_alloc()'s: behind the kernel image, from where it was told to begin."""
    size = target.vmcoreinfo.numbers.get("KERNEL_IMAGE_SIZE")
    if architecture_of(target.prog) != Architecture.X86_64 or size is None:
        return None
    # With KASLR, kernel/module.c of x86 draws it when the first module is loaded.
    offset = target.values.number(lambda prog: prog["module_load_offset"]) or 0
    return ((_X86_64_IMAGE + size + offset, _X86_64_MODULES_END),)


def _from_arm64(target: Target) -> Optional[_Ranges]:
    """
    Take module_alloc()'s: 128 MiB that branches of the kernel reach, then 2 GiB that they
    reach by way of veneers (CONFIG_ARM64_MODULE_PLTS). Since Linux kernel commit
    3e35d303ab7d ("arm64: module: rework module VA range selection") (in v6.5) each has a
    variable of its own.
    """
    if architecture_of(target.prog) != Architecture.AARCH64:
        return None
    values, sizes = target.values, (_ARM64_DIRECT, _ARM64_FALLBACK)
    base = values.number(lambda prog: prog["module_alloc_base"])
    direct = values.number(lambda prog: prog["module_direct_base"])
    far = values.number(lambda prog: prog["module_plt_base"])
    bases = (direct, far) if direct is not None or far is not None else (base, base)
    found = tuple((low, low + size) for low, size in zip(bases, sizes) if low)
    # These are of a kernel that does not move modules about.
    numbers = target.vmcoreinfo.numbers
    start, end = numbers.get("MODULES_VADDR"), numbers.get("MODULES_END")
    if found or start is None or end is None:
        return found or None
    return ((start, end),)


def _from_s390x(target: Target) -> Optional[_Ranges]:
    """Take module_alloc()'s, from where it was told to begin."""
    values, names = target.values, ("MODULES_VADDR", "MODULES_END")
    start, end = (values.number(lambda prog: prog[name]) for name in names)
    # With KASLR, kernel/module.c of s390 draws it when the first module is loaded.
    offset = values.number(lambda prog: prog["module_load_offset"]) or 0
    return None if start is None or end is None else ((start + offset, end),)


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
    values = target.values
    if architecture_of(target.prog) == Architecture.X86_64:
        start = values.number(lambda prog: prog["vmalloc_base"])
        five_levels = has_five_levels(target.vmcoreinfo.numbers)
        return None if start is None else (start, start + _X86_64_SIZE[five_levels] - 1)
    start = values.number(lambda prog: prog["__vmalloc_start"])
    end = values.number(lambda prog: prog["__vmalloc_end"])
    return None if start is None or end is None else (start, end)


def _from_arm(target: Target) -> Optional[Tuple[int, int]]:
    """Take what 32-bit Arm has behind low memory (arch/arm/include/asm/pgtable.h)."""
    if architecture_of(target.prog) != Architecture.ARM:
        return None
    low_end = target.values.number(lambda prog: prog["high_memory"])
    if low_end is None:
        return None
    # So far behind it, or up to as much less as it takes to begin at a multiple of that.
    return (low_end // _ARM_OFFSET + 1) * _ARM_OFFSET, _ARM_END


SPACES: Mapping[str, Callable[[Target], Space]] = {
    "vmalloc": vmalloc_space,
    "module": module_space,
}
"""What finds each space that areas are made in."""
