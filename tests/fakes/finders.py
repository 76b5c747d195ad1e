# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Finders of types and objects that others register before ours: as drgn's coming "btf",
which is enabled whether BTF was loaded or not, and as Oracle's "ctf".
"""

from __future__ import annotations

from typing import Callable

from drgn import FindObjectFlags, Object, Program, Type, TypeKind, TypeKindSet

from drgn_vmap.kernel.types.btf import BtfTypes
from drgn_vmap.kernel.types.btf_data import BtfData

__all__ = ("FINDERS", "register")

#: What a finder of types finds, of all that there are.
Answer = Callable[[Program, BtfTypes, TypeKindSet, str], "Type | None"]


def silent(*_: object) -> Type | None:
    """Find nothing: no BTF was loaded."""
    return None


def all_of_them(
    prog: Program, types: BtfTypes, kinds: TypeKindSet, name: str
) -> Type | None:
    """Find every type, also by a file name, which is not looked at."""
    return types.find(prog, kinds, name, None)


def declared_only(
    prog: Program, types: BtfTypes, kinds: TypeKindSet, name: str
) -> Type | None:
    """Find of structs that there are some."""
    return prog.struct_type(name) if TypeKind.STRUCT in kinds else None


def areas_only(
    prog: Program, types: BtfTypes, kinds: TypeKindSet, name: str
) -> Type | None:
    """Find no more than the types of areas, and what they are made of."""
    wanted = ("vmap_area", "vm_struct", "list_head", "rb_node")
    return types.find(prog, kinds, name, None) if name in wanted else None


def broken(prog: Program, types: BtfTypes, kinds: TypeKindSet, name: str) -> None:
    """Fail at each struct, as where that is damaged."""
    if TypeKind.STRUCT in kinds:
        raise ValueError(f"{name} is no type")


FINDERS: dict[str, tuple[str, Answer]] = {
    "silent btf": ("btf", silent),
    "btf": ("btf", all_of_them),
    "ctf": ("ctf", all_of_them),
    "part of a ctf": ("ctf", areas_only),
}
"""By what they are like: the name they register, and what they find."""


def register(prog: Program, name: str, answer: Answer, btf: bytes) -> None:
    """
    Enable such finders before all others.

    That of objects knows the types of variables, but not their addresses, and ends the
    search with an error, as drgn's coming one does.
    """
    types = BtfTypes(prog, BtfData(btf))

    def find_type(
        prog: Program, kinds: TypeKindSet, tag: str, filename: str | None
    ) -> Type | None:
        return answer(prog, types, kinds, tag)

    def find_object(
        prog: Program, name: str, flags: FindObjectFlags, filename: str | None
    ) -> Object | None:
        if answer is not silent and types.variable(name):
            raise LookupError(f"there is a BTF VAR of {name}, but no address")
        return None

    prog.register_type_finder(name, find_type, enable_index=0)
    prog.register_object_finder(name, find_object, enable_index=0)
