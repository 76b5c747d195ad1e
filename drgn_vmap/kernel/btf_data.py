# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
BTF data
--------

Reads the BPF Type Format (include/uapi/linux/btf.h, Documentation/bpf/btf.rst), the
types that a kernel carries in its own memory. Where each type lies is found in one
pass; what it says is read when it is asked for.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Dict, List, Optional, Tuple

from .._numpy import Array, np
from ..errors import SymbolsError

__all__ = ("BtfData", "BtfKind", "BtfRecord")


class BtfKind(IntEnum):
    """BTF_KIND_*."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_MAGIC = 0xEB9F
_REVISION = 1
_HEADER_BYTES = 24
_LAYOUT_HEADER_BYTES = 32
_WORD = 4
_HEAD_WORDS = 3
"""A struct btf_type: name, info, and size or type."""

# Words behind the head: a fixed number, and a number for each of its vlen elements.
_SHAPES: Dict[int, Tuple[int, int]] = {
    BtfKind.INT: (1, 0),
    BtfKind.PTR: (0, 0),
    BtfKind.ARRAY: (3, 0),
    BtfKind.STRUCT: (0, 3),
    BtfKind.UNION: (0, 3),
    BtfKind.ENUM: (0, 2),
    BtfKind.FWD: (0, 0),
    BtfKind.TYPEDEF: (0, 0),
    BtfKind.VOLATILE: (0, 0),
    BtfKind.CONST: (0, 0),
    BtfKind.RESTRICT: (0, 0),
    BtfKind.FUNC: (0, 0),
    BtfKind.FUNC_PROTO: (0, 2),
    BtfKind.VAR: (1, 0),
    BtfKind.DATASEC: (0, 3),
    BtfKind.FLOAT: (0, 0),
    BtfKind.DECL_TAG: (1, 0),
    BtfKind.TYPE_TAG: (0, 0),
    BtfKind.ENUM64: (0, 3),
}
_KINDS = 128


@dataclass(frozen=True)
class BtfRecord:
    """One type as it is written down."""

    id: int
    kind: int
    """One of :class:`BtfKind`, or a kind that is newer than this code."""
    name: str
    flag: bool
    """kind_flag."""
    size_or_type: int
    fixed: Tuple[int, ...]
    """The words behind the head that kinds such as INT and ARRAY have."""
    elements: Tuple[Tuple[int, ...], ...]
    """Members, enumerators, parameters or variables, in words."""
    offset: int
    """Where in the data it begins, in bytes."""


class BtfData:
    """
    One blob of BTF, of the kernel or of a module.

    :param base: What a module's BTF continues, the kernel's.
    :raises SymbolsError: if the data is damaged, with the offset of the damage.
    """

    def __init__(self, data: bytes, base: Optional["BtfData"] = None) -> None:
        self._data = data
        self._base = base
        self.first_id: int = base.end_id if base else 1
        self._first_string: int = base._end_string if base else 0
        self._read_header()
        starts = self._find_starts()
        self.end_id: int = self.first_id + len(starts)
        self._end_string: int = self._first_string + len(self._strings)
        self._starts = starts
        self._name_offsets = self._words[starts]
        info = self._words[starts + 1]
        self._kinds: Array = ((info >> 24) & 0x7F).astype(np.uint8)
        self._kind_bytes = self._kinds.tobytes()
        enums = self._kinds == BtfKind.ENUM
        self.has_enum_signs = bool(
            (info[enums] >> 31).any() or (self._kinds == BtfKind.ENUM64).any()
        )
        """Whether kind_flag tells which enumerations are signed (since pahole 1.24)."""
        self.odd_ints = self._find_odd_ints()
        """
        Bit offset and size of integers that are bit fields, by number: a way from
        before kind_flag to write these.
        """

    def kind(self, id: int) -> int:
        """Return the kind of a type, 0 if there is none of this number."""
        if self._base and id < self.first_id:
            return self._base.kind(id)
        row = id - self.first_id
        return self._kind_bytes[row] if 0 <= row < len(self._kind_bytes) else 0

    def record(self, id: int) -> BtfRecord:
        """
        Return a type.

        :raises SymbolsError: if there is none of this number.
        """
        if self._base and 0 < id < self.first_id:
            return self._base.record(id)
        if not self.first_id <= id < self.end_id:
            raise self._damaged(0, f"there is no type {id}")
        at = int(self._starts[id - self.first_id])
        end = self.first_id + len(self._starts) - 1
        stop = int(self._starts[id + 1 - self.first_id]) if id < end else None
        words: List[int] = self._words[at:stop].tolist()
        name, info, size_or_type = words[:_HEAD_WORDS]
        kind = info >> 24 & 0x7F
        fixed, each = _SHAPES.get(kind, (0, 0))
        first = _HEAD_WORDS + fixed
        count = info & 0xFFFFFF if each else 0
        return BtfRecord(
            id=id,
            kind=kind,
            name=self.string(name, at),
            flag=bool(info >> 31),
            size_or_type=size_or_type,
            fixed=tuple(words[_HEAD_WORDS:first]),
            elements=tuple(
                tuple(words[i : i + each])
                for i in range(first, first + count * each, each or 1)
            ),
            offset=self._type_offset + at * _WORD,
        )

    def string(self, offset: int, word: int = 0) -> str:
        """Return a string of the string section, or of the base's."""
        if self._base and offset < self._first_string:
            return self._base.string(offset)
        start = offset - self._first_string
        if start >= len(self._strings):
            raise self._damaged(
                self._type_offset + word * _WORD, f"there is no string {offset}"
            )
        raw = self._strings[start : self._strings.index(b"\0", start)]
        return raw.decode("utf-8", "backslashreplace")

    def names(self, kind: int) -> Dict[str, List[int]]:
        """Return the numbers of this blob's types of a kind, by name."""
        rows = np.flatnonzero(self._kinds == kind)
        offsets = self._name_offsets[rows]
        rows, offsets = rows[offsets != 0], offsets[offsets != 0]
        found: Dict[str, List[int]] = {}
        for row, offset in zip(rows.tolist(), offsets.tolist()):
            name = self.string(offset, int(self._starts[row]))
            found.setdefault(name, []).append(self.first_id + row)
        return found

    def enumerators(self) -> Dict[str, int]:
        """Return the number of the type that each enumerator belongs to."""
        found: Dict[str, int] = {}
        for kind, each in ((BtfKind.ENUM, 2), (BtfKind.ENUM64, 3)):
            for row in np.flatnonzero(self._kinds == kind).tolist():
                at = int(self._starts[row])
                count = int(self._words[at + 1]) & 0xFFFFFF
                first = at + _HEAD_WORDS
                names = self._words[first : first + count * each : each]
                for offset in names.tolist():
                    found.setdefault(self.string(offset, at), self.first_id + row)
        return found

    def _find_odd_ints(self) -> Dict[int, Tuple[int, int]]:
        found = dict(self._base.odd_ints) if self._base else {}
        for row in np.flatnonzero(self._kinds == BtfKind.INT).tolist():
            size, encoding = self._words[self._starts[row] + [2, 3]].tolist()
            if encoding & 0xFF not in (0, 8 * size):
                found[self.first_id + row] = (encoding >> 16 & 0xFF, encoding & 0xFF)
        return found

    def damaged(self, record: BtfRecord, why: str) -> SymbolsError:
        """Return the error that a record is damaged."""
        return self._damaged(record.offset, why)

    def _damaged(self, offset: int, why: str) -> SymbolsError:
        return SymbolsError(
            f"the kernel's BTF is damaged at offset {offset:#x} ({why}): install its "
            "debug info, or name its vmlinux with drgn -s"
        )

    def _read_header(self) -> None:
        """Find the sections."""
        if len(self._data) < _HEADER_BYTES:
            raise self._damaged(len(self._data), "it ends within its header")
        for self.byteorder, order in (("little", "<"), ("big", ">")):
            header = struct.unpack_from(f"{order}HBBIIIII", self._data)
            if header[0] == _MAGIC:
                break
        else:
            raise self._damaged(0, "it does not begin as BTF does")
        _, revision, _, self._header_bytes, *sections = header
        if revision != _REVISION:
            raise self._damaged(2, f"its version is {revision}")
        if not _HEADER_BYTES <= self._header_bytes <= len(self._data):
            raise self._damaged(4, f"its header has {self._header_bytes} bytes")
        types = self._section(8, *sections[:2])
        self._type_offset = self._header_bytes + sections[0]
        if len(types) % _WORD:
            raise self._damaged(12, "its types are cut short")
        self._words: Array = np.frombuffer(types, f"{order}u4").astype(np.int64)
        self._strings = self._section(16, *sections[2:])
        # A module's strings go on where the kernel's end, and it may have none.
        if not self._strings.endswith(b"\0") and not (self._base and not self._strings):
            raise self._damaged(20, "its strings have no end")

    def _section(self, field: int, begin: int, size: int) -> bytes:
        begin += self._header_bytes
        if begin + size > len(self._data):
            raise self._damaged(field, "a section reaches behind the end")
        return self._data[begin : begin + size]

    def _shapes(self) -> Tuple[Array, Array]:
        """Return for each kind the words it has in any case, and for each element."""
        fixed, each = np.zeros(_KINDS, np.int64), np.zeros(_KINDS, np.int64)
        # Since Linux 7.2 or so, a section may tell the shapes of all kinds, so that
        # those that are not known can be passed over.
        if self._header_bytes >= _LAYOUT_HEADER_BYTES:
            order = "<" if self.byteorder == "little" else ">"
            place = struct.unpack_from(f"{order}II", self._data, _HEADER_BYTES)
            layout = self._section(_HEADER_BYTES, *place)
            for kind in range(min(len(layout) // 4, _KINDS)):
                info_bytes, element_bytes = layout[4 * kind], layout[4 * kind + 1]
                fixed[kind] = _HEAD_WORDS + info_bytes // _WORD
                each[kind] = element_bytes // _WORD
        for kind, (words, element) in _SHAPES.items():
            fixed[kind], each[kind] = _HEAD_WORDS + words, element
        return fixed, each

    def _find_starts(self) -> Array:
        """Return the word at which each type begins."""
        words = self._words
        fixed, each = self._shapes()
        info = np.append(words[1:], 0) if len(words) else words
        kind = (info >> 24) & 0x7F
        # Where the next type would begin, if one began at this word. A kind that is
        # not known leads nowhere, all others lead on.
        size = fixed[kind] + each[kind] * (info & 0xFFFFFF)
        leads = memoryview(np.arange(len(words)) + size)
        starts: List[int] = []
        at, end = 0, len(words)
        while at < end:
            following = leads[at]
            if following > end or following < at + _HEAD_WORDS:
                offset = self._type_offset + at * _WORD
                if following > end:
                    raise self._damaged(offset, "a type reaches behind the end")
                raise self._damaged(offset, f"kind {int(kind[at])} is unknown")
            starts.append(at)
            at = following
        return np.array(starts, np.int64)
