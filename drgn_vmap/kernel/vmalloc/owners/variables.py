# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Variables
---------

Static variables, and members of them, that point to where an area begins: looked for in
all data of the kernel image, of modules and of CPUs at once.
"""

from typing import Callable, Iterable, Iterator, NamedTuple, Optional, Tuple

from ...._numpy import U64Array, np
from ....errors import Fault, VmapError
from ....model.owners import Owner, OwnerKind
from ...memory.cpus import per_cpu_offsets, possible_cpus
from ...target import Target
from ...types.structs import pointer_dtype
from ..callers import CallerNames, module_parts
from ..ranges import vmalloc_range
from .busy import NONE, Claim
from .search import Search

__all__ = ("image_data", "variables")

_DATA = (
    ("__start_rodata", "__end_rodata"),
    ("_sdata", "_edata"),
    ("__bss_start", "__start_bss_decrypted_unused", "__bss_stop"),
)
"""
What the linker script has around data (include/asm-generic/sections.h): where it starts, and
ends, of two the first that there is. Since Linux kernel commit b3f0907c71e0 ("x86/mm: Add
.bss..decrypted section to hold shared variables") (in v4.19) the last of x86's .bss, up to
2 MiB, is padding that the kernel frees: anything may lie there.
"""
_PER_CPU = ("__per_cpu_start", "__per_cpu_end")
_PIECE_BYTES = 1 << 20
_MAX_BYTES = 256 << 20
"""More than any data has in one piece."""
_MAX_BYTES_IN_ALL = 2 << 30
"""More than the data of 4096 CPUs."""
_NOT_DATA = ("text", "init text")
_NO_OWNERS = ("stack", "log_buf", "flush_tlb_info", "vmalloc_base", "kcore_vmalloc")
"""
Parts of names of what holds pointers that are left over from calls, or addresses that a CPU
flushed from its TLB, such as those of areas that were freed, or that say where vmalloc space
begins.
"""


class _Data(NamedTuple):
    start: int
    end: int
    shift: int = 0
    """What to add to an address for that of its symbol, modulo 2^64."""
    cpu: Optional[int] = None


def variables(search: Search) -> Iterator[Claim]:
    """Yield the variables that point to where areas begin."""
    target = search.target
    names = CallerNames(target)
    space = vmalloc_range(target)
    for data in _within_budget(_all_data(search)):
        for address, pointer in _pointers(target, data):
            at = np.flatnonzero(pointer != np.uint64(space.start))
            rows = search.busy.starting(pointer[at])
            for place in np.flatnonzero(rows != NONE).tolist():
                where = int(address[at[place]])
                owner = _variable(names, data, where)
                if owner:
                    yield int(rows[place]), owner


def image_data(
    address_of: Callable[[str], Optional[int]],
) -> Iterator[Tuple[int, int]]:
    """
    Yield where data of the kernel image begins and ends.

    :param address_of: Returns the address of a symbol, None if there is none.
    """
    for first, *lasts in _DATA:
        start, *ends = map(address_of, (first, *lasts))
        end = next((end for end in ends if end is not None), None)
        if start is not None and end is not None:
            yield start, end


def _variable(names: CallerNames, data: _Data, address: int) -> Optional[Owner]:
    found = names.variable((address + data.shift) % (1 << 64))
    if found is None or any(word in found[0] for word in _NO_OWNERS):
        return None
    name, offset = found
    detail = f"at +{offset:#x}" if offset else ""
    if data.cpu is not None:
        detail = f"of CPU {data.cpu}{detail and ', '}{detail}"
    return Owner(OwnerKind.VARIABLE, name, None, detail, f"pointer at {address:#x}")


def _within_budget(all_data: Iterable[_Data]) -> Iterator[_Data]:
    """Leave out data that is larger than can be, by itself or in sum."""
    left = _MAX_BYTES_IN_ALL
    for data in all_data:
        size = data.end - data.start
        if 0 < size <= min(_MAX_BYTES, left):
            left -= size
            yield data


def _all_data(search: Search) -> Iterator[_Data]:
    for start, end in image_data(search.symbol):
        yield _Data(start, end)
    yield from _per_cpu_data(search)
    try:
        for part in module_parts(search.target):
            if part.name not in _NOT_DATA:
                yield _Data(part.start, part.end)
    except VmapError:
        return


def _per_cpu_data(search: Search) -> Iterator[_Data]:
    start, end = (search.symbol(name) for name in _PER_CPU)
    if start is None or end is None:
        return
    values = search.target.values
    offsets = per_cpu_offsets(values, possible_cpus(values))
    for cpu, offset in offsets.items():
        yield _Data(
            (start + offset) % (1 << 64), (end + offset) % (1 << 64), -offset, cpu
        )


def _pointers(target: Target, data: _Data) -> Iterator[Tuple[U64Array, U64Array]]:
    """Yield words and where they are, piece by piece; what is not there is skipped."""
    word = pointer_dtype(target.prog)
    first = -(-data.start // word.itemsize) * word.itemsize
    for at in range(first, data.end - word.itemsize + 1, _PIECE_BYTES):
        count = min(_PIECE_BYTES, data.end - at) // word.itemsize
        addresses = np.uint64(at) + np.uint64(word.itemsize) * np.arange(
            count, dtype=np.uint64
        )
        try:
            words = target.memory.array(at, count, word)
            yield addresses, words.astype(np.uint64)
        except Fault:
            words, ok = target.memory.records(addresses, word)
            yield addresses[ok], words[ok].astype(np.uint64)
