# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Debug info
----------

Sees to it that a program knows its kernel's types and variables. Whoever tells of them,
drgn's DWARF, a finder of BTF or of CTF, is asked first. Where nobody does, the kernel's
own BTF and symbol table take that place: in each kernel's memory, so in a vmcore too,
there are all types and all names. They also complete what others than DWARF leave out.
"""

from typing import Callable, Mapping, Optional, TypeVar

from drgn import (
    FindObjectFlags,
    ModuleFileStatus,
    Object,
    Program,
    SymbolKind,
)

from ...errors import GET_DEBUG_INFO, Fault, SymbolsError, VmapError
from ..doors import door
from .btf import BtfTypes
from .carried import Carried, carried_by
from .variables import variable_type

__all__ = ("BTF_FINDER", "ensure_types", "has_dwarf")

BTF_FINDER = "vmap-btf"
"""Name of our finders, as drgn has a "btf"; those of modules' types begin with it."""
_DWARF = "dwarf"
_OF_DRGN = ("linux", _DWARF)
"""Finders of objects that drgn asks first by itself, and that are never wrong."""
_Found = TypeVar("_Found")


def ensure_types(prog: Program) -> str:
    """
    Let a program know its kernel's types and variables.

    Finders that are registered for it stay: drgn knows no way to take one back, and who
    looks around by hand after a verb needs them as well.

    :return: Where types come from: ``dwarf``, ``btf`` if that is what the kernel carries,
        else the name of the type finder that tells them.
    :raises SymbolsError: if nobody does.
    """
    found = _who_knows(prog, "struct vmap_area")
    if found == _DWARF:
        _set_enabled(prog, False, False)
        return found
    if found is None:
        try:
            _need_carried(carried_by(prog))
        except SymbolsError:
            # Kernels without an MMU have no areas.
            found = _who_knows(prog, "struct list_head")
            if found is None:
                raise
    if BTF_FINDER not in prog.registered_type_finders():
        _register(prog)
    _set_enabled(prog, True, found is None)
    return found or "btf"


def has_dwarf(prog: Program) -> bool:
    """Return whether the kernel's DWARF is there, which alone tells what was inlined."""
    try:
        status = prog.main_module().debug_file_status
    except LookupError:
        return False
    return status == ModuleFileStatus.HAVE and _DWARF in prog.enabled_object_finders()


def _who_knows(prog: Program, name: str) -> Optional[str]:
    """Return the first type finder that is not ours and tells a struct's members."""
    enabled = prog.enabled_type_finders()
    try:
        for finder in enabled:
            # DWARF of modules may have some of the kernel's types.
            if (
                finder.startswith(BTF_FINDER)
                or finder == _DWARF
                and not has_dwarf(prog)
            ):
                continue
            prog.set_enabled_type_finders([finder])
            try:
                with door():
                    type_ = prog.type(name)
                    if type_.is_complete() and type_.members:
                        return finder
            except Fault:
                continue
    finally:
        prog.set_enabled_type_finders(enabled)
    return None


def _need_carried(carried: Carried) -> None:
    try:
        carried.kallsyms, carried.types
    except Fault as e:
        raise SymbolsError(
            f"the kernel's BTF or symbol table cannot be read ({e.why}): {GET_DEBUG_INFO}"
        ) from e


def _register(prog: Program) -> None:
    carried = carried_by(prog)
    # Both are read before drgn asks for them: reading them asks drgn.
    symbols = _if_there_is_any(lambda: carried.kallsyms)
    types = _if_there_is_any(lambda: carried.types)
    prog.register_symbol_finder(BTF_FINDER, symbols.find if symbols else lambda *_: [])
    prog.register_type_finder(BTF_FINDER, types.find if types else lambda *_: None)
    prog.register_object_finder(
        BTF_FINDER, _Objects(types, carried.vmcoreinfo.symbols).find
    )


def _if_there_is_any(read: Callable[[], _Found]) -> Optional[_Found]:
    """Return what completes the types of others; they may do without."""
    try:
        return read()
    except VmapError:
        return None


def _set_enabled(prog: Program, enabled: bool, alone: bool) -> None:
    """
    Put our finders in their places, or take them away.

    :param alone: Whether nobody else tells the kernel's types.
    """
    if BTF_FINDER not in prog.registered_object_finders():
        return
    types = [name for name in prog.enabled_type_finders() if name != BTF_FINDER]
    objects = [name for name in prog.enabled_object_finders() if name != BTF_FINDER]
    symbols = [name for name in prog.enabled_symbol_finders() if name != BTF_FINDER]
    ours = [BTF_FINDER] * enabled
    # Modules' debug info may be there without the kernel's, and may have types of the
    # same name.
    prog.set_enabled_type_finders(ours + types if alone else types + ours)
    # Others than drgn's may end a search with an error: drgn's coming "btf" does, of a
    # variable that it knows the type of, but not the address.
    place = [name in _OF_DRGN for name in [*objects, ""]].index(False)
    prog.set_enabled_object_finders(objects[:place] + ours + objects[place:])
    prog.set_enabled_symbol_finders(ours + symbols)


class _Objects:
    """
    The functions, variables and enumerators of a kernel, of types that are known.

    :param addresses: Of variables, for those whose names are lost.
    """

    def __init__(self, types: Optional[BtfTypes], addresses: Mapping[str, int]) -> None:
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
            found = self._types and self._types.constant(name)
        return found

    def _variable(
        self, prog: Program, name: str, filename: Optional[str]
    ) -> Optional[Object]:
        # Several finders may know the same symbol.
        addresses = {symbol.address for symbol in prog.symbols(name)}
        if not addresses and name in self._addresses:
            addresses = {self._addresses[name]}
        # Of several with the same name none is known to be the one.
        if len(addresses) != 1:
            return None
        try:
            type_ = variable_type(prog, name, filename)
        except LookupError:
            return None
        if type_ is None and self._types and not filename:
            type_ = self._types.variable(name)
        return type_ and Object(prog, type_, address=addresses.pop())

    def _function(self, prog: Program, name: str) -> Optional[Object]:
        # In which file it is defined is not known.
        type_ = self._types and self._types.function(name)
        # drgn looks whether it is there. BTF that older versions of pahole made leaves
        # out what ftrace does, such as functions that are used while memory is set up.
        if type_ is None and name == "vmemmap_populate" and prog.symbols(name):
            type_ = prog.function_type(prog.void_type(), ())
        if type_ is None:
            return None
        addresses = {
            symbol.address
            for symbol in prog.symbols(name)
            if symbol.kind == SymbolKind.FUNC
        }
        if len(addresses) != 1:
            return Object(prog, type_)
        return Object(prog, type_, address=addresses.pop())
