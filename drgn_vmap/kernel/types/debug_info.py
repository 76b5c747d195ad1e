# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Debug info
----------

Sees to it that a program knows its kernel's types and variables. If drgn has found
DWARF, that is used. Else the kernel's own BTF and symbol table take its place: in
each kernel's memory, so in a vmcore too, there are all types and all names.
"""

from typing import Mapping, Optional

from drgn import (
    FindObjectFlags,
    ModuleFileStatus,
    Object,
    Program,
    SymbolKind,
)

from ...errors import Fault, SymbolsError
from .btf import BtfTypes
from .carried import carried_by
from .variables import variable_type

__all__ = ("BTF_FINDER", "ensure_types")

BTF_FINDER = "vmap-btf"
"""Name of our finders; those of modules' types begin with it."""


def ensure_types(prog: Program) -> str:
    """
    Let a program know its kernel's types and variables.

    Finders that are registered for it stay: drgn knows no way to take one back, and who
    looks around by hand after a verb needs them as well.

    :return: Where they come from, ``dwarf`` or ``btf``.
    :raises SymbolsError: if there is neither.
    """
    if _has_debug_info(prog):
        _set_enabled(prog, False)
        return "dwarf"
    if BTF_FINDER not in prog.registered_type_finders():
        _register(prog)
    _set_enabled(prog, True)
    return "btf"


def _has_debug_info(prog: Program) -> bool:
    try:
        if prog.main_module().debug_file_status == ModuleFileStatus.HAVE:
            return True
    except LookupError:
        pass
    # Somebody has put the program together, with types of their own.
    others = set(prog.enabled_type_finders()) - {"dwarf"}
    return any(not name.startswith(BTF_FINDER) for name in others)


def _register(prog: Program) -> None:
    carried = carried_by(prog)
    carried.mend_image()
    try:
        symbols, types = carried.kallsyms, carried.types
    except Fault as e:
        raise SymbolsError(
            f"the kernel's BTF or symbol table cannot be read ({e.why}): install the "
            "kernel's debug info, or name its vmlinux with drgn -s"
        ) from e
    prog.register_symbol_finder(BTF_FINDER, symbols.find)
    prog.register_type_finder(BTF_FINDER, types.find)
    prog.register_object_finder(
        BTF_FINDER, _Objects(types, carried.vmcoreinfo.symbols).find
    )


def _set_enabled(prog: Program, enabled: bool) -> None:
    """Put our finders in their places, or take them away."""
    if BTF_FINDER not in prog.registered_object_finders():
        return
    types = [name for name in prog.enabled_type_finders() if name != BTF_FINDER]
    objects = [name for name in prog.enabled_object_finders() if name != BTF_FINDER]
    symbols = [name for name in prog.enabled_symbol_finders() if name != BTF_FINDER]
    ours = [BTF_FINDER] * enabled
    # Modules' debug info may be there without the kernel's, and may have types of the
    # same name.
    prog.set_enabled_type_finders(ours + types)
    prog.set_enabled_object_finders(objects + ours)
    prog.set_enabled_symbol_finders(ours + symbols)


class _Objects:
    """
    The functions, variables and enumerators of a kernel.

    :param addresses: Of variables, for those whose names are lost.
    """

    def __init__(self, types: BtfTypes, addresses: Mapping[str, int]) -> None:
        self._types = types
        self._addresses = addresses

    def find(
        self, prog: Program, name: str, flags: FindObjectFlags, filename: Optional[str]
    ) -> Optional[Object]:
        """Find an object, as :meth:`drgn.Program.register_object_finder()` asks for."""
        found = None
        if flags & FindObjectFlags.VARIABLE:
            found = self._variable(prog, name, filename)
        if found is None and flags & FindObjectFlags.FUNCTION:
            found = self._function(prog, name)
        if found is None and flags & FindObjectFlags.CONSTANT and not filename:
            found = self._types.constant(name)
        return found

    def _variable(
        self, prog: Program, name: str, filename: Optional[str]
    ) -> Optional[Object]:
        addresses = [symbol.address for symbol in prog.symbols(name)]
        if not addresses and name in self._addresses:
            addresses = [self._addresses[name]]
        # Of several with the same name none is known to be the one.
        if len(addresses) != 1:
            return None
        try:
            type_ = variable_type(prog, name, filename)
        except LookupError:
            return None
        if type_ is None and not filename:
            type_ = self._types.variable(name)
        return type_ and Object(prog, type_, address=addresses[0])

    def _function(self, prog: Program, name: str) -> Optional[Object]:
        # In which file it is defined is not known.
        type_ = self._types.function(name)
        # drgn looks whether it is there. BTF that older versions of pahole made leaves
        # out what ftrace does, such as functions that are used while memory is set up.
        if type_ is None and name == "vmemmap_populate" and prog.symbols(name):
            type_ = prog.function_type(prog.void_type(), ())
        if type_ is None:
            return None
        symbols = [s for s in prog.symbols(name) if s.kind == SymbolKind.FUNC]
        if len(symbols) != 1:
            return Object(prog, type_)
        return Object(prog, type_, address=symbols[0].address)
