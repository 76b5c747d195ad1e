# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Functions
---------

Which functions and parameters a kernel has, mostly of mm/vmalloc.c. DWARF tells of each,
inlined or not. BTF and the symbol table know nothing of what was inlined everywhere;
there, another trace of the same change to the kernel has to tell.
"""

from typing import Callable, Dict, Optional, Sequence, Tuple

from drgn import Object, Symbol, container_of

from ..errors import Fault, VmapError
from .doors import Values, door
from .types.calls import calls
from .types.structs import has_member

__all__ = ("Functions",)

_VMALLOC_C = "mm/vmalloc.c"
_Variants = Callable[[str], Sequence[Symbol]]
_MAX_DEPTH = 64
"""More levels than there are in the tree of /proc."""
_MAX_NAME = 256
"""More bytes than a name in /proc has."""


class Functions:
    """
    The functions of a kernel, those of mm/vmalloc.c if nothing else is said.

    :param has_dwarf: Whether debug info tells of each.
    :param variants: Returns the symbols of what the compiler made of a function, such as
        ``NAME.isra.0``.
    """

    def __init__(self, values: Values, has_dwarf: bool, variants: _Variants) -> None:
        self._values = values
        self._has_dwarf = has_dwarf
        self._variants = variants

    def knows(self, name: str) -> bool:
        """Return whether it is known that a function is there or not, also if inlined."""
        return self._has_dwarf or self._sign(name) is not None

    def has(self, name: str, file: str = _VMALLOC_C) -> bool:
        """Return whether a function of this name is known to be there, inlined or not."""
        if self._find(name, file) is not None:
            return True
        if self._has_dwarf:
            return False
        # Of a function whose parameters the compiler changed there is only the name, and
        # something behind it.
        return bool(self._symbols(name)) or bool(self._sign(name))

    def _sign(self, name: str) -> Optional[bool]:
        """Return what another trace of a function tells; None if that is nothing."""
        caller, callee = _TOLD_BY_CALLS.get(name, ("", ""))
        if not caller:
            return None
        try:
            return calls(
                self._values.prog, self._symbols(caller), self._symbols(callee)
            )
        except Fault:
            return None

    def _symbols(self, name: str) -> Sequence[Symbol]:
        found = self._values.prog.symbols(name)
        if found:
            return found
        try:
            return self._variants(name)
        except VmapError:
            return ()

    def has_parameter(self, function: str, parameter: str) -> bool:
        """Return whether a function is known to have a parameter of this name."""
        found = self._find(function, _VMALLOC_C)
        if found is not None:
            return any(p.name == parameter for p in found.type_.parameters)
        if self._has_dwarf:
            return False
        sign = _PARAMETER_SIGNS.get((function, parameter))
        return sign is not None and sign(self._values)

    def _find(self, name: str, file: str) -> Optional[Object]:
        """Return a function, also if it was inlined, or None."""
        try:
            return self._values.prog.function(name, file)
        except LookupError:
            return None


def _shares_no_counters(values: Values) -> bool:
    # Linux kernel commit 5c5f0468d172 ("mm/vmalloc: fix data race in show_numa_info()")
    # (in v6.16, also in v6.12.y and v6.15.y) left vmallocinfo, which readers of it had
    # shared a counter array through, without data of its own.
    if not has_member(values.prog, "struct vmap_node", "busy"):
        return False
    try:
        entry = _proc_entry(values, b"vmallocinfo")
        return entry is None or not values.number(lambda prog: entry.data)
    except Fault:
        return True


def _proc_entry(values: Values, name: bytes) -> Optional[Object]:
    """
    Find an entry of /proc as pde_subdir_find() does.

    :return: ``struct proc_dir_entry *``
    """
    if values.address("proc_root") is None:
        return None
    with door():
        node = values.prog["proc_root"].subdir.rb_node.read_()
        for _ in range(_MAX_DEPTH):
            if not node:
                break
            entry = container_of(node, "struct proc_dir_entry", "subdir_node")
            length = min(entry.namelen.value_(), _MAX_NAME)
            found = values.prog.read(entry.name.value_(), length)
            if found == name:
                return entry
            left = (len(name), name) < (length, found)
            node = (node.rb_left if left else node.rb_right).read_()
    return None


_TOLD_BY_CALLS = {
    # It finds the block of an address in an xarray; nothing else in these does.
    "vmap_ram_vread": ("vread", "xa_load"),
    "vmap_ram_vread_iter": ("vread_iter", "xa_load"),
}
"""A function that another one goes into, by name: that one, and what is called there."""
_PARAMETER_SIGNS: Dict[Tuple[str, str], Callable[[Values], bool]] = {
    ("show_numa_info", "counters"): _shares_no_counters,
}
"""What came in with a function or parameter, for where inlining hides it."""
