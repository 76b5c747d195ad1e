# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What drgn types are made of, so that those of two sources can be compared."""

from __future__ import annotations

from drgn import Type, TypeKind, sizeof

COMPOUND = (TypeKind.STRUCT, TypeKind.UNION)


def resolved(type_: Type) -> Type:
    """Return what a typedef stands for."""
    while type_.kind == TypeKind.TYPEDEF:
        type_ = type_.type
    return type_


def outline(type_: Type, pointed_to: bool = False) -> object:
    """
    Return all that a type is made of, where structs with a name are named alone, and
    of nameless ones that are pointed to there is the size alone: they may be in a ring.

    Two things BTF does not keep: in how many dimensions an array is laid out, and
    whether its last one is [] or [0]. So an array is a number of elements.
    """
    kind, qualifiers = type_.kind, type_.qualifiers.value
    if kind == TypeKind.ARRAY:
        count, element = type_.length or 0, type_.type
        while element.kind == TypeKind.ARRAY:
            count, element = count * (element.length or 0), element.type
        return "array", count, outline(element, pointed_to)
    if kind == TypeKind.POINTER:
        return "pointer", qualifiers, outline(type_.type, True)
    if kind == TypeKind.TYPEDEF:
        return "typedef", qualifiers, type_.name
    if kind == TypeKind.FUNCTION:
        parameters = [outline(parameter.type, True) for parameter in type_.parameters]
        return "function", outline(type_.type, True), parameters, type_.is_variadic
    if kind in (*COMPOUND, TypeKind.ENUM):
        if type_.tag:
            return str(kind), qualifiers, type_.tag
        if pointed_to:
            return str(kind), qualifiers, type_.is_complete() and sizeof(type_)
        return contents(type_)
    size = None if kind == TypeKind.VOID else type_.size
    return type_.type_name(), size, kind == TypeKind.INT and type_.is_signed


def contents(type_: Type) -> object:
    """Return size and members of a struct or union, values of an enumeration."""
    if type_.kind == TypeKind.ENUM:
        size = type_.type.size if type_.type else None
        return size, [tuple(enumerator) for enumerator in type_.enumerators or ()]
    return type_.size, [
        (m.name, m.bit_offset, m.bit_field_size, outline(m.type))
        for m in type_.members or ()
    ]
