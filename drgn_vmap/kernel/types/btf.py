# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
BTF types
---------

Makes drgn types of the BTF that a kernel carries, so that no debug info is needed.
:meth:`BtfTypes.find` is an ordinary drgn type finder, of use beyond this project::

    types = BtfTypes(prog, BtfData(Path("/sys/kernel/btf/vmlinux").read_bytes()))
    prog.register_type_finder("kernel-btf", types.find, enable_index=-1)

Only what is asked for is made; members, parameters and what they lead to, once
somebody looks at them.
"""

from dataclasses import replace
from typing import Callable, Dict, List, Optional, Tuple

from drgn import (
    Object,
    PlatformFlags,
    Program,
    Qualifiers,
    Type,
    TypeEnumerator,
    TypeKind,
    TypeKindSet,
    TypeMember,
    TypeParameter,
)

from ...errors import SymbolsError
from .btf_data import BtfData, BtfRecord
from .btf_kind import BtfKind
from .standard import (
    FEWEST_NAMES,
    LOST_NAME,
    MEMBERS,
    ORDERS,
    PERHAPS,
    STRUCTS,
    UNIONS,
    names_of_lost,
)

__all__ = ("BtfTypes",)

_KINDS: Dict[TypeKind, Tuple[BtfKind, ...]] = {
    TypeKind.INT: (BtfKind.INT,),
    TypeKind.BOOL: (BtfKind.INT,),
    TypeKind.FLOAT: (BtfKind.FLOAT,),
    TypeKind.STRUCT: (BtfKind.STRUCT, BtfKind.FWD),
    TypeKind.UNION: (BtfKind.UNION, BtfKind.FWD),
    TypeKind.ENUM: (BtfKind.ENUM, BtfKind.ENUM64),
    TypeKind.TYPEDEF: (BtfKind.TYPEDEF,),
}
_QUALIFIERS = {
    BtfKind.CONST: Qualifiers.CONST,
    BtfKind.VOLATILE: Qualifiers.VOLATILE,
    BtfKind.RESTRICT: Qualifiers.RESTRICT,
    # Notes for checkers, which are no part of a type.
    BtfKind.TYPE_TAG: Qualifiers.NONE,
}
_STANDARD = {f"struct {tag}" for tag in STRUCTS}
_INT_SIGNED = 1
_INT_BOOL = 4
_MAX_DEPTH = 32
"""More steps than there are from a real type to the last that it is made of."""
_MAX_FIELDS = 1 << 20
"""More fields than a real struct has, with those of the structs in it."""
_INT_SIZES = (1, 2, 4, 8, 16)
_ENUM_SIZES = (1, 2, 4, 8)
_FLOAT_SIZES = (2, 4, 8, 10, 12, 16)
# What an enumeration is kept in, by its size and whether it is signed.
_ENUM_INTS = {
    (1, False): "unsigned char",
    (1, True): "signed char",
    (2, False): "short unsigned int",
    (2, True): "short int",
    (4, False): "unsigned int",
    (4, True): "int",
    (8, False): "long unsigned int",
    (8, True): "long int",
}


class BtfTypes:
    """
    The types of a kernel, or of a module.

    :param base: What a module's types build on, the kernel's.
    """

    def __init__(
        self, prog: Program, data: BtfData, base: Optional["BtfTypes"] = None
    ) -> None:
        self._prog = prog
        self.data = data
        self._base = base
        self._types: Dict[int, Type] = {}
        self._fields: Dict[int, int] = {}
        self._depth = 0

    def find(
        self, prog: Program, kinds: TypeKindSet, name: str, filename: Optional[str]
    ) -> Optional[Type]:
        """Find a type, as :meth:`drgn.Program.register_type_finder()` asks for."""
        # BTF does not tell in which file anything is defined.
        if filename:
            return None
        for kind in _KINDS.keys() & set(kinds):
            for btf_kind in _KINDS[kind]:
                for id in self.data.find(btf_kind, name):
                    type_ = self.type(id)
                    if type_.kind == kind:
                        return type_
        if self.data.is_torn and TypeKind.STRUCT in kinds:
            return self._by_members(name) or self._standard(name)
        return None

    def _by_members(self, tag: str) -> Optional[Type]:
        """Return a struct whose tag is lost, if one has just the members of this one."""
        found = []
        for order in ORDERS.get(tag, ()):
            for id in self.data.find_nameless(BtfKind.STRUCT, len(order)):
                elements = self.data.record(id).elements
                known = [self._known_name(offset) for offset, *_ in elements]
                differ = any(name not in (None, one) for name, one in zip(known, order))
                if not differ and sum(map(bool, known)) >= FEWEST_NAMES:
                    found.append(id)
        if len(found) != 1:
            return None
        return self._make_compound(replace(self.data.record(found[0]), name=tag))

    def _known_name(self, offset: int) -> Optional[str]:
        return self.data.string(offset) if self.data.has_string(offset) else None

    def _standard(self, tag: str) -> Optional[Type]:
        """Return one of the structs that are the same everywhere, or None."""
        words = STRUCTS.get(tag)
        if words is None:
            return None
        members, at = [], 0
        for name, known in words:
            members.append(TypeMember(self._instead(0, known), name, 8 * at))
            pointer = self._prog.type("unsigned long").size or 0
            at += pointer if known.endswith("*") else self._prog.type(known).size or 0
        return self._prog.struct_type(tag, at, members)

    def function(self, name: str) -> Optional[Type]:
        """Return the type of a function, or None."""
        for id in self.data.find(BtfKind.FUNC, name):
            try:
                return self.type(self.data.record(id).size_or_type)
            except SymbolsError:
                if not self.data.is_torn:
                    raise
        return None

    def variable(self, name: str) -> Optional[Type]:
        """Return the type of a variable, or None: most often only per-CPU ones have."""
        for id in self.data.find(BtfKind.VAR, name):
            return self.type(self.data.record(id).size_or_type)
        return None

    def constant(self, name: str) -> Optional[Object]:
        """Return an enumerator, or None."""
        for id in self.data.find_enumerator(name):
            type_ = self.type(id)
            for enumerator in type_.enumerators or ():
                if enumerator.name == name:
                    return Object(self._prog, type_, enumerator.value)
        return None

    def type(self, id: int) -> Type:
        """
        Return a type by its number; 0 is ``void``.

        :raises SymbolsError: if the BTF is damaged there.
        """
        if id == 0:
            return self._prog.void_type()
        if self._base and id < self.data.first_id:
            return self._base.type(id)
        if id not in self._types:
            record = self.data.record(id)
            if self._depth >= _MAX_DEPTH:
                raise self.data.damaged(record, "a type is made of itself")
            self._depth += 1
            try:
                self._types[id] = self._make(record)
            except (TypeError, ValueError, OverflowError) as e:
                raise self.data.damaged(record, str(e)) from e
            finally:
                self._depth -= 1
        return self._types[id]

    def _make(self, record: BtfRecord) -> Type:
        make = _MAKERS.get(record.kind)
        if make is None:
            raise self.data.damaged(record, f"kind {record.kind} is no type")
        return make(self, record)

    def _make_int(self, record: BtfRecord) -> Type:
        if record.size_or_type not in _INT_SIZES:
            raise self.data.damaged(record, f"{record.size_or_type} bytes are no int")
        encoding = record.fixed[0] >> 24
        size, order = record.size_or_type, self.data.byteorder
        if encoding & _INT_BOOL:
            return self._prog.bool_type(record.name, size, order)
        # Old versions of pahole mark no char as signed.
        signed = encoding & _INT_SIGNED != 0 or record.name == "signed char"
        return self._prog.int_type(record.name, size, signed, order)

    def _make_float(self, record: BtfRecord) -> Type:
        if record.size_or_type not in _FLOAT_SIZES:
            raise self.data.damaged(record, f"{record.size_or_type} bytes: no float")
        size, order = record.size_or_type, self.data.byteorder
        return self._prog.float_type(record.name, size, order)

    def _make_pointer(self, record: BtfRecord) -> Type:
        try:
            target = self.type(record.size_or_type)
        except SymbolsError:
            if not self.data.is_torn:
                raise
            # A pointer is one, whatever it points to.
            target = self._prog.struct_type(f"{LOST_NAME}{record.size_or_type}")
        return self._prog.pointer_type(target, byteorder=self.data.byteorder)

    def _make_array(self, record: BtfRecord) -> Type:
        element, _, length = record.fixed
        return self._prog.array_type(self.type(element), length)

    def _make_typedef(self, record: BtfRecord) -> Type:
        return self._prog.typedef_type(record.name, self.type(record.size_or_type))

    def _make_qualified(self, record: BtfRecord) -> Type:
        type_ = self.type(record.size_or_type)
        added = _QUALIFIERS[BtfKind(record.kind)]
        return type_.qualified(type_.qualifiers | added)

    def _make_forward(self, record: BtfRecord) -> Type:
        kind = BtfKind.UNION if record.flag else BtfKind.STRUCT
        found = self.data.find(kind, record.name)
        if len(found) == 1:
            return self.type(found[0])
        base = self._base.data.find(kind, record.name) if self._base else ()
        if not found and self._base and len(base) == 1:
            return self._base.type(base[0])
        make = self._prog.union_type if record.flag else self._prog.struct_type
        return make(record.name)

    def _make_function(self, record: BtfRecord) -> Type:
        parameters = record.elements
        is_variadic = parameters[-1:] == ((0, 0),)
        return self._prog.function_type(
            self.type(record.size_or_type),
            [
                # At once, as nothing else sees a function that takes itself.
                TypeParameter(self.type(type_), self.data.name(name) or None)
                for name, type_ in parameters[: len(parameters) - is_variadic]
            ],
            is_variadic,
        )

    def _make_enum(self, record: BtfRecord) -> Type:
        if not record.elements:
            return self._prog.enum_type(record.name or None)
        if record.size_or_type not in _ENUM_SIZES:
            raise self.data.damaged(record, f"{record.size_or_type} bytes: no enum")
        bits = 32 * (len(record.elements[0]) - 1)
        signed = record.flag or not self.data.has_enum_signs
        top = 1 << bits - 1 if signed else 0
        enumerators = []
        for text, *words in record.elements:
            value = sum(word << 32 * i for i, word in enumerate(words))
            value -= (value & top) << 1
            enumerators.append(TypeEnumerator(self.data.name(text), value))
        signed = record.flag or any(e.value < 0 for e in enumerators)
        size, order = record.size_or_type, self.data.byteorder
        held_in = self._prog.int_type(_ENUM_INTS[size, signed], size, signed, order)
        return self._prog.enum_type(record.name or None, held_in, enumerators)

    def _make_compound(self, record: BtfRecord) -> Type:
        self._count_fields(record.id, 0)
        make = self._prog.struct_type
        last = len(record.elements) - 1
        if record.kind == BtfKind.UNION:
            make, last = self._prog.union_type, -1
        members = []
        names = self._member_names(record)
        for index, (_, id, place) in enumerate(record.elements):
            # Without kind_flag, all of it is the offset.
            size, offset = divmod(place, 1 << 24) if record.flag else (0, place)
            if id in self.data.odd_ints:
                offset_in_int, size = self.data.odd_ints[id]
                offset += offset_in_int
            later = self._later(id, size, may_be_flexible=index == last)
            known = self._known_members(record.name).get(names[index] or "")
            if self._is_lost(id) or self.data.is_torn and known in _STANDARD:
                later = self._instead(id, known)
            if self._is_torn_union(record.name, record.elements[index]):
                later = self._union_instead(record.name)
            members.append(TypeMember(later, names[index], offset))
        return make(record.name or None, record.size_or_type, members)

    def _known_members(self, tag: str) -> Dict[str, str]:
        """Return what the members of a struct are in each kernel of 64 bits."""
        platform = self._prog.platform
        is_64_bit = platform and platform.flags & PlatformFlags.IS_64_BIT
        return MEMBERS.get(tag, {}) if self.data.is_torn and is_64_bit else {}

    def _member_names(self, record: BtfRecord) -> List[Optional[str]]:
        """Return the names of a struct's members, with what stands for lost ones."""
        known = [self._known_name(offset) for offset, *_ in record.elements]
        if self.data.is_torn:
            known = list(names_of_lost(record.name, tuple(known)))
        names: List[Optional[str]] = []
        for name, (offset, id, _) in zip(known, record.elements):
            # Members of a struct without a name are looked for in it.
            in_union = not name and record.name in UNIONS
            if name is None or not name and self._is_lost(id) and not in_union:
                name = f"{LOST_NAME}{offset}"
            names.append(name or None)
        return names

    def _is_torn_union(self, tag: str, member: Tuple[int, ...]) -> bool:
        """Return whether a member is the known union of a struct, and not whole."""
        name, id, *_ = member
        if not self.data.is_torn or name or tag not in UNIONS:
            return False
        if self._is_lost(id):
            return True
        return any(
            self._known_name(offset) is None or self._is_lost(inner)
            for offset, inner, *_ in self.data.record(id).elements
        )

    def _union_instead(self, tag: str) -> Callable[[], Object]:
        """Return a function that makes what is known of the union of a struct."""

        def make() -> Object:
            members = [
                TypeMember(self._prog.type(known), name)
                for name, known in UNIONS[tag].items()
            ]
            perhaps = f"{LOST_NAME}{PERHAPS[tag]}"
            members.append(TypeMember(self._prog.type("unsigned long"), perhaps))
            size = self._prog.type("unsigned long").size or 0
            return Object(self._prog, self._prog.union_type(None, size, members))

        return make

    def _is_lost(self, id: int) -> bool:
        """Return whether nothing is known of a type, as that part of the BTF is lost."""
        if self._base and id < self.data.first_id:
            return self._base._is_lost(id)
        return self.data.is_torn and id != 0 and self.data.kind(id) == 0

    def _instead(self, id: int, known: Optional[str]) -> Callable[[], Object]:
        """
        Return a function that makes a member whose own type is lost, or may be in part.

        :param known: What it is in each kernel.
        """

        def make() -> Object:
            # If that is not known, whoever asks is told the number that is lost.
            type_ = self._prog.type(known) if known else self.type(id)
            return Object(self._prog, type_)

        return make

    def _later(
        self, id: int, bits: int = 0, may_be_flexible: bool = False
    ) -> Callable[[], Object]:
        """
        Return a function that makes a member, without a value.

        :param bits: Size of a bit field; 0 for what is none.
        """

        def make() -> Object:
            type_ = self.type(id)
            # BTF writes [] and [0] in the same way.
            if may_be_flexible and type_.kind == TypeKind.ARRAY and not type_.length:
                type_ = self._prog.array_type(type_.type)
            try:
                return Object(self._prog, type_, bit_field_size=bits or None)
            except (TypeError, ValueError, OverflowError) as e:
                raise self.data.damaged(self.data.record(id), str(e)) from e

        return make

    def _count_fields(self, id: int, depth: int) -> int:
        """
        Count the fields of a struct and of all structs in it.

        :raises SymbolsError: if there are absurdly many, or if it holds itself: drgn
            would never come to an end.
        """
        if self._base and id < self.data.first_id:
            return self._base._count_fields(id, depth)
        if id not in self._fields:
            record = self.data.record(id)
            count = len(record.elements)
            for _, member, _ in record.elements:
                inner = self._compound_in(member)
                if depth > _MAX_DEPTH or count > _MAX_FIELDS:
                    raise self.data.damaged(record, "a struct is made of itself")
                count += self._count_fields(inner, depth + 1) if inner else 0
            self._fields[id] = count
        return self._fields[id]

    def _compound_in(self, id: int) -> Optional[int]:
        """Return the struct or union that a type is or is an array of, or None."""
        for _ in range(_MAX_DEPTH):
            kind = self.data.kind(id)
            if kind in (BtfKind.STRUCT, BtfKind.UNION):
                return id
            if kind == BtfKind.ARRAY:
                id = self.data.record(id).fixed[0]
            elif kind in _QUALIFIERS or kind == BtfKind.TYPEDEF:
                id = self.data.record(id).size_or_type
            else:
                return None
        raise self.data.damaged(self.data.record(id), "a type is made of itself")


_MAKERS: Dict[int, Callable[[BtfTypes, BtfRecord], Type]] = {
    BtfKind.INT: BtfTypes._make_int,
    BtfKind.PTR: BtfTypes._make_pointer,
    BtfKind.ARRAY: BtfTypes._make_array,
    BtfKind.STRUCT: BtfTypes._make_compound,
    BtfKind.UNION: BtfTypes._make_compound,
    BtfKind.ENUM: BtfTypes._make_enum,
    BtfKind.ENUM64: BtfTypes._make_enum,
    BtfKind.FWD: BtfTypes._make_forward,
    BtfKind.TYPEDEF: BtfTypes._make_typedef,
    BtfKind.FUNC_PROTO: BtfTypes._make_function,
    BtfKind.FLOAT: BtfTypes._make_float,
    **{kind: BtfTypes._make_qualified for kind in _QUALIFIERS},
}
