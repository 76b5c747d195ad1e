# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Structs
-------

What a program knows of C types, and a C struct as a numpy dtype, so that many of them
can be read in one go. Offsets and sizes come from the program's own type source,
whichever that is; a type source may be damaged, so they are bounded here.
"""

from typing import Any, Container, Mapping, Optional, Sequence

from drgn import PlatformFlags, Program, Type, TypeKind, offsetof

from ..._numpy import Array, Record, np
from ...errors import GET_DEBUG_INFO, SymbolsError
from ...model.tags import as_pointer
from .standard import may_be

__all__ = (
    "array_length",
    "field_offset",
    "find_type",
    "has_member",
    "join_records",
    "member_offset",
    "need_offset",
    "pointer_dtype",
    "pointer_members",
    "record_dtype",
    "type_size",
    "word_dtype",
    "word_size",
)

_MAX_BYTES = 1 << 20
"""More than any struct has that is read here."""
_DAMAGED = (AttributeError, OverflowError, TypeError, ValueError)
"""What drgn and numpy raise of a type that cannot be."""
_POINTERS = ("__rb_parent_color",)
"""Members that are pointers, though their types call them numbers."""
_NUMBERS = (TypeKind.INT, TypeKind.BOOL, TypeKind.POINTER)


def find_type(prog: Program, name: str) -> Optional[Type]:
    """Return a type, or None if the program knows none of this name, or only a name."""
    try:
        found = prog.type(name)
    # A finder of somebody else's may fail at what it does not know.
    except (LookupError, *_DAMAGED):
        return None
    return found if found.is_complete() else None


def type_size(prog: Program, name: str) -> Optional[int]:
    """Return the size of a type in bytes; None if there is none, or it cannot be."""
    found = find_type(prog, name)
    size = 0 if found is None or found.size is None else found.size
    return size if 0 < size <= _MAX_BYTES else None


def has_member(prog: Program, name: str, member: str) -> bool:
    """
    Return whether there is a struct of this name, and it has a member of that one.

    :raises SymbolsError: if that is lost.
    """
    found = find_type(prog, name)
    if found is None or found.has_member(member):
        return found is not None
    _check_names(found, member)
    return False


def member_offset(prog: Program, name: str, designator: str) -> Optional[int]:
    """
    Return where in a struct a member is, in bytes.

    :param designator: Such as ``rb_node.rb_left``.
    :return: None if there is no such struct or member.
    """
    found = find_type(prog, name)
    return None if found is None else _offset(found, designator)


def need_offset(prog: Program, name: str, designator: str) -> int:
    """
    Return the same.

    :raises SymbolsError: if there is no such struct or member.
    """
    offset = member_offset(prog, name, designator)
    if offset is None:
        raise _no_member(name, designator)
    return offset


def array_length(prog: Program, name: str, member: str) -> int:
    """Return the number of elements of a member that is an array, 0 if there is none."""
    found = find_type(prog, name)
    if found is None or not found.has_member(member):
        return 0
    type_ = _resolved(found.member(member).type)
    return (type_.length or 0) if type_.kind == TypeKind.ARRAY else 0


def pointer_members(prog: Program, name: str) -> Mapping[str, int]:
    """Return where in a struct its own pointers are, in bytes, by name."""
    found = find_type(prog, name)
    if found is None:
        return {}
    try:
        return {
            member.name: member.offset
            for member in found.members or ()
            if member.name and _resolved(member.type).kind == TypeKind.POINTER
        }
    except (LookupError, *_DAMAGED):
        return {}


def record_dtype(
    prog: Program,
    name: str,
    members: Mapping[str, str],
    optional: Container[str] = (),
    words: Container[str] = (),
    tagged: Container[str] = (),
) -> Record:
    """
    Return the dtype of a struct, with a field for each wanted member.

    :param name: C type, such as ``struct vmap_area``.
    :param members: Designator of each member, such as ``rb_node.rb_left``, by
        the name its field gets; ``used_map[]`` if it is an array of numbers.
    :param optional: Names of fields whose members not all kernels have. Those that
        this one lacks get no field; look in ``dtype.names``.
    :param words: Names of fields that are pointers or ``unsigned long`` in each kernel.
    :param tagged: Names of fields whose pointers keep their tags.
    :raises SymbolsError: if the program has no such type or member, or one that cannot
        be.
    """
    struct, size = find_type(prog, name), type_size(prog, name)
    if struct is None or size is None:
        raise SymbolsError(
            f"{name} is not known: install the kernel's debug info, or name its "
            "vmlinux with -s"
        )
    fields = {}
    for field, designator in members.items():
        offset = _offset(struct, designator.partition("[")[0])
        if offset is None and field not in optional:
            raise _no_member(name, designator)
        if offset is not None:
            try:
                format_ = _member_dtype(struct, designator, field not in tagged)
            except _DAMAGED:
                raise _no_member(name, designator) from None
            is_wrong = field in words and format_.itemsize != word_size(prog)
            if is_wrong or offset + format_.itemsize > size:
                raise _no_member(name, designator)
            fields[field] = (offset, format_)
    return np.dtype(
        {
            "names": list(fields),
            "formats": [format_ for _, format_ in fields.values()],
            "offsets": [offset for offset, _ in fields.values()],
            "itemsize": size,
        }
    )


def word_size(prog: Program) -> int:
    """Return the bytes of an ``unsigned long``."""
    platform = prog.platform
    return 8 if platform and platform.flags & PlatformFlags.IS_64_BIT else 4


def word_dtype(prog: Program) -> Record:
    """Return the dtype of an ``unsigned long``."""
    return np.dtype(_number_format(_resolved(prog.type("unsigned long"))))


def pointer_dtype(prog: Program) -> Record:
    """Return the dtype of a pointer."""
    return as_pointer(word_dtype(prog))


def field_offset(dtype: Record, name: str) -> int:
    """Return where in a record a field is that it has, in bytes."""
    assert dtype.fields is not None
    return dtype.fields[name][1]


def join_records(parts: Sequence[Array]) -> Array:
    """Concatenate records of the same dtype; there is at least one part."""
    # As plain bytes: numpy copies structs field by field.
    dtype = parts[0].dtype
    joined: Array = np.concatenate([part.view(f"V{dtype.itemsize}") for part in parts])
    return joined.view(dtype)


def _no_member(name: str, designator: str) -> SymbolsError:
    return SymbolsError(f"member {designator} of {name} is not known: {GET_DEBUG_INFO}")


def _offset(struct: Type, designator: str) -> Optional[int]:
    try:
        offset = offsetof(struct, designator)
    except LookupError:
        _check_names(struct, designator)
        return None
    except _DAMAGED:
        return None
    return offset if 0 <= offset <= _MAX_BYTES else None


def _check_names(struct: Type, designator: str) -> None:
    """
    See that a member that was not found is not one whose name is lost.

    :raises SymbolsError: if it may be.
    """
    type_ = struct
    for name in designator.split("."):
        type_ = _resolved(type_)
        if type_.kind not in (TypeKind.STRUCT, TypeKind.UNION) or not type_.members:
            return
        if not type_.has_member(name):
            if _may_have(type_, name):
                raise SymbolsError(
                    f"whether {struct.type_name()} has a member {designator} is lost: "
                    f"{GET_DEBUG_INFO}"
                )
            return
        type_ = type_.member(name).type


def _may_have(struct: Type, name: str) -> bool:
    if struct.kind not in (TypeKind.STRUCT, TypeKind.UNION):
        # No name is right for others: it is damaged.
        return True
    return any(
        (
            may_be(member.name, name)
            if member.name
            else _may_have(_resolved(member.type), name)
        )
        for member in struct.members or ()
    )


def _member_dtype(struct: Type, designator: str, has_pointers: bool) -> Record:
    """
    Return the dtype of a member.

    :param has_pointers: Whether a pointer is one, or a mere number.
    :raises ValueError: if it is an array where there should be none, or none.
    """
    type_ = struct
    for name in designator.partition("[")[0].split("."):
        type_ = _resolved(type_).member(name).type
    type_ = _resolved(type_)
    is_array = type_.kind == TypeKind.ARRAY
    if is_array != designator.endswith("[]"):
        raise ValueError(designator)
    element = _resolved(type_.type) if is_array else type_
    dtype = np.dtype(_number_format(element))
    if has_pointers and (element.kind == TypeKind.POINTER or name in _POINTERS):
        dtype = as_pointer(dtype)
    return np.dtype((dtype, (type_.length,))) if is_array else dtype


def _resolved(type_: Type) -> Type:
    """Return what a typedef stands for."""
    while type_.kind == TypeKind.TYPEDEF:
        type_ = type_.type
    return type_


def _number_format(type_: Type) -> Any:
    """
    Return the numpy format of a number, a pointer, or a struct that wraps one.

    :raises ValueError: if it is something else.
    """
    if type_.kind in (TypeKind.STRUCT, TypeKind.UNION) and type_.members:
        # A type that wraps one number, such as atomic_t or memdesc_flags_t.
        return _number_format(_resolved(type_.members[0].type))
    if type_.kind == TypeKind.ENUM:
        return _number_format(_resolved(type_.type))
    if type_.kind not in _NUMBERS:
        raise ValueError(type_.type_name())
    order = "<" if type_.byteorder == "little" else ">"
    # Nothing that is read so is below 0, and numpy mixes no signed numbers with others.
    return f"{order}u{type_.size}"
