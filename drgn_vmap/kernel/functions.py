# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Functions
---------

Which functions and parameters mm/vmalloc.c of a kernel has. DWARF tells of each,
inlined or not. BTF and the symbol table know nothing of what was inlined everywhere;
there, another trace of the same change to the kernel has to tell.
"""

import re
import struct
from typing import Callable, Dict, Iterator, Optional, Set, Tuple

from drgn import Architecture, FaultError, Object, Program, container_of

from .debug_info import ensure_types

__all__ = ("has_function", "has_parameter", "knows_inlined_calls")

_VMALLOC_C = "mm/vmalloc.c"
_MAX_CODE = 1 << 16
"""More bytes than a function has that is looked into."""
_MAX_DEPTH = 64
"""More levels than there are in the tree of /proc."""


def has_function(prog: Program, name: str) -> bool:
    """Return whether mm/vmalloc.c has a function, inlined or not."""
    if _find_function(prog, name) is not None:
        return True
    if ensure_types(prog) == "dwarf":
        return False
    # Of a function whose parameters the compiler changed there is only the name.
    sign = _FUNCTION_SIGNS.get(name)
    return bool(prog.symbols(name)) or (sign is not None and sign(prog))


def has_parameter(prog: Program, function: str, parameter: str) -> bool:
    """Return whether a function of mm/vmalloc.c has a parameter of this name."""
    found = _find_function(prog, function)
    if found is not None:
        return any(p.name == parameter for p in found.type_.parameters)
    if ensure_types(prog) == "dwarf":
        return False
    sign = _PARAMETER_SIGNS.get((function, parameter))
    return sign is not None and sign(prog)


def knows_inlined_calls(prog: Program) -> bool:
    """Return whether what was inlined would have been seen."""
    return ensure_types(prog) == "dwarf" or _architecture(prog) in _CALLS


def _architecture(prog: Program) -> Optional[Architecture]:
    return prog.platform.arch if prog.platform else None


def _find_function(prog: Program, name: str) -> Optional[Object]:
    """Return a function of mm/vmalloc.c, also if it was inlined, or None."""
    try:
        return prog.function(name, _VMALLOC_C)
    except LookupError:
        return None


def _reads_blocks(reader: str) -> Callable[[Program], bool]:
    """Return what tells whether a reader has that of vm_map_ram() memory in it."""

    # That one finds the block of an address in an xarray; nothing else there does.
    def reads_blocks(prog: Program) -> bool:
        try:
            return prog.symbol("xa_load").address in _called_by(prog, reader)
        except (FaultError, LookupError):
            return False

    return reads_blocks


def _called_by(prog: Program, function: str) -> Set[int]:
    """
    Return where the calls in a function's code may lead, where code can be read.

    :raises LookupError: if there is no such function.
    :raises FaultError: if its code cannot be read.
    """
    symbol = prog.symbol(function)
    calls = _CALLS.get(_architecture(prog))
    if calls is None:
        return set()
    code = prog.read(symbol.address, min(symbol.size, _MAX_CODE))
    return {(symbol.address + offset) % (1 << 64) for offset in calls(code)}


def _x86_64_calls(code: bytes) -> Iterator[int]:
    """Yield where calls lead, from the beginning of the code."""
    # Bytes that only look like a call lead anywhere, but hardly to a given function.
    for found in re.finditer(rb"\xe8(?=.{4})", code, re.S):
        yield found.end() + 4 + struct.unpack_from("<i", code, found.end())[0]


def _aarch64_calls(code: bytes) -> Iterator[int]:
    """Yield where BL instructions lead, from the beginning of the code."""
    for index, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) & ~3])):
        if word >> 26 == 0b100101:
            distance = (word & 0x3FFFFFF) - ((word & 0x2000000) << 1)
            yield 4 * (index + distance)


def _ppc64_calls(code: bytes) -> Iterator[int]:
    """Yield where relative BL instructions of little-endian code lead."""
    for index, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) & ~3])):
        if word >> 26 == 18 and word & 3 == 1:
            distance = (word & 0x3FFFFFC) - ((word & 0x2000000) << 1)
            yield 4 * index + distance
            # Calls skip what sets the callee's TOC pointer up, the two instructions that
            # its symbol is at (ELFv2 ABI, local entry points).
            yield 4 * index + distance - 8


def _s390x_calls(code: bytes) -> Iterator[int]:
    """Yield where BRASL instructions lead that return by register 14, as calls do."""
    # As on x86-64, what only looks like a call does no harm.
    for found in re.finditer(rb"\xc0\xe5(?=(.{4}))", code, re.S):
        yield found.start() + 2 * struct.unpack(">i", found[1])[0]


_CALLS: Dict[Optional[Architecture], Callable[[bytes], Iterator[int]]] = {
    Architecture.X86_64: _x86_64_calls,
    Architecture.AARCH64: _aarch64_calls,
    Architecture.PPC64: _ppc64_calls,
    Architecture.S390X: _s390x_calls,
}


def _shares_no_counters(prog: Program) -> bool:
    # The change left vmallocinfo, which readers of it had shared a counter array
    # through, without data of its own.
    if not _has_member(prog, "struct vmap_node", "busy"):
        return False
    try:
        entry = _proc_entry(prog, b"vmallocinfo")
        return entry is None or not entry.data
    except FaultError:
        return True


def _proc_entry(prog: Program, name: bytes) -> Optional[Object]:
    """
    Find an entry of /proc as pde_subdir_find() does.

    :return: ``struct proc_dir_entry *``
    """
    node = prog["proc_root"].subdir.rb_node.read_()
    for _ in range(_MAX_DEPTH):
        if not node:
            break
        entry = container_of(node, "struct proc_dir_entry", "subdir_node")
        length = entry.namelen.value_()
        found = prog.read(entry.name.value_(), length)
        if found == name:
            return entry
        left = (len(name), name) < (length, found)
        node = (node.rb_left if left else node.rb_right).read_()
    return None


def _has_member(prog: Program, struct_name: str, member: str) -> bool:
    try:
        return prog.type(struct_name).has_member(member)
    except LookupError:
        return False


_FUNCTION_SIGNS: Dict[str, Callable[[Program], bool]] = {
    "vmap_ram_vread": _reads_blocks("vread"),
    "vmap_ram_vread_iter": _reads_blocks("vread_iter"),
}
_PARAMETER_SIGNS: Dict[Tuple[str, str], Callable[[Program], bool]] = {
    # A member that came in the same version (v6.10).
    ("alloc_vmap_area", "vm"): lambda prog: _has_member(
        prog, "struct vmap_block", "cpu"
    ),
    ("show_numa_info", "counters"): _shares_no_counters,
}
"""What came in with a function or parameter, for where inlining hides it."""
