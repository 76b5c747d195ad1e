# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Regions
-------

What lies outside of vmalloc space. The kernel's tree of free areas has all addresses from
1 up, so that it calls them free says nothing of them.
"""

from typing import Callable, Iterator, Optional, Tuple

from drgn import Architecture

from ...errors import SymbolsError, VmapError
from ...model.places import Region
from ..doors import architecture_of
from ..memory.direct_map import direct_map_start
from ..memory.frames import node_spans
from ..memory.ppc64 import LINEAR_START
from ..memory.table_formats import AARCH64_VA_BITS, has_five_levels
from ..target import Target
from .callers import module_parts
from .ranges import vmalloc_range

__all__ = ("find_regions",)


def find_regions(target: Target) -> Tuple[Region, ...]:
    """
    Return vmalloc space and what is known to be elsewhere; an address is in the first one
    that holds it.

    :return: Nothing if it is not known where vmalloc space is.
    """
    try:
        space = vmalloc_range(target)
    except SymbolsError:
        return ()
    regions = [Region("vmalloc space", space.start, space.end, is_vmalloc=True)]
    for source in _SOURCES:
        try:
            regions += source(target)
        except VmapError:
            continue  # What it would tell has no name then.
    return tuple(regions)


def _image(target: Target) -> Iterator[Region]:
    start = _symbol(target, "_text", "_stext")
    # Where it is the end of the last segment, drgn does not move it with the others.
    ends = [_symbol(target, name) for name in ("_end", "__bss_stop")]
    end = next((end for end in ends if start and end and start < end), None)
    if start is not None and end is not None:
        yield Region("the kernel image", start, end)


def _symbol(target: Target, *names: str) -> Optional[int]:
    for name in names:
        found = target.prog.symbols(name)
        if found:
            return int(found[0].address)
    return next(
        (target.vmcoreinfo.symbols[n] for n in names if n in target.vmcoreinfo.symbols),
        None,
    )


def _modules(target: Target) -> Iterator[Region]:
    for part in module_parts(target):
        yield Region(f"module {part.module}", part.start, part.end)


def _struct_pages(target: Target) -> Iterator[Region]:
    frames = target.frames
    name = f"the array of struct pages ({frames.name})"
    yield Region(name, frames.first, frames.end)


def _direct_map(target: Target) -> Iterator[Region]:
    start: Optional[int] = LINEAR_START
    if not target.has_hash_table:
        start = direct_map_start(target.values)
    end = max((span.end for span in node_spans(target.values)), default=0)
    if start is not None:
        name = "the direct map of physical memory"
        yield Region(name, start, start + end * target.page_size)


def _user_space(target: Target) -> Iterator[Region]:
    """Yield the addresses that processes have, and those that nobody has."""
    numbers, arch = target.vmcoreinfo.numbers, architecture_of(target.prog)
    if arch == Architecture.X86_64:
        end = 1 << (56 if has_five_levels(numbers) else 47)
        yield Region("user space", 0, end)
        yield Region("no address (not canonical)", end, (1 << 64) - end)
    elif arch == Architecture.AARCH64 and numbers.get("VA_BITS") in AARCH64_VA_BITS:
        yield Region("user space", 0, 1 << numbers["VA_BITS"])
    elif arch == Architecture.PPC64:
        # The topmost digit of an address tells whose it is.
        yield Region("user space", 0, 1 << 60)


_SOURCES: Tuple[Callable[[Target], Iterator[Region]], ...] = (
    _image,
    _modules,
    _struct_pages,
    _direct_map,
    _user_space,
)
