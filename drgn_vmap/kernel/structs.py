# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Structs
-------

A C struct as a numpy dtype, so that many of them can be read in one go. Offsets
and sizes come from the program's own type source, whichever that is.
"""

from typing import Any, Mapping, Sequence

from drgn import Program, Type, TypeKind, offsetof

from .._numpy import Array, Record, np

__all__ = ("join_records", "record_dtype", "word_dtype")


def record_dtype(prog: Program, name: str, members: Mapping[str, str]) -> Record:
    """
    Return the dtype of a struct, with a field for each wanted member.

    :param name: C type, such as ``struct vmap_area``.
    :param members: Designator of each member, such as ``rb_node.rb_left``, by
        the name its field gets. Members that this kernel's struct lacks get no
        field; look in ``dtype.names``.
    :raises LookupError: if the program has no such type.
    """
    struct = prog.type(name)
    fields = {}
    for field, designator in members.items():
        try:
            offset = offsetof(struct, designator)
        except LookupError:
            continue
        fields[field] = (offset, _number_format(_member_type(struct, designator)))
    return np.dtype(
        {
            "names": list(fields),
            "formats": [format_ for _, format_ in fields.values()],
            "offsets": [offset for offset, _ in fields.values()],
            "itemsize": struct.size,
        }
    )


def word_dtype(prog: Program) -> Record:
    """Return the dtype of an ``unsigned long``."""
    return np.dtype(_number_format(_resolved(prog.type("unsigned long"))))


def join_records(parts: Sequence[Array]) -> Array:
    """Concatenate records of the same dtype; there is at least one part."""
    # As plain bytes: numpy copies structs field by field.
    dtype = parts[0].dtype
    joined: Array = np.concatenate([part.view(f"V{dtype.itemsize}") for part in parts])
    return joined.view(dtype)


def _member_type(struct: Type, designator: str) -> Type:
    type_ = struct
    for name in designator.split("."):
        type_ = _resolved(type_).member(name).type
    return _resolved(type_)


def _resolved(type_: Type) -> Type:
    """Return what a typedef stands for."""
    while type_.kind == TypeKind.TYPEDEF:
        type_ = type_.type
    return type_


def _number_format(type_: Type) -> Any:
    """Return the numpy format of a number, pointer, array or struct of one."""
    if type_.kind == TypeKind.ARRAY:
        return (_number_format(_resolved(type_.type)), (type_.length,))
    if type_.kind in (TypeKind.STRUCT, TypeKind.UNION):
        # A type that wraps one number, such as atomic_t or memdesc_flags_t.
        return _number_format(_resolved(type_.members[0].type))
    order = "<" if type_.byteorder == "little" else ">"
    signed = type_.kind == TypeKind.INT and type_.is_signed
    return f"{order}{'i' if signed else 'u'}{type_.size}"
