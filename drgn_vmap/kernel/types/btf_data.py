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
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from ..._numpy import Array, U64Array, np, spread
from ...errors import GET_DEBUG_INFO, SymbolsError
from .btf_kind import BtfKind
from .heads import HEAD_BYTES, rows_with_head
from .standard import LOST_NAME
from .torn import Torn

__all__ = ("BtfData", "BtfKind", "BtfRecord")


FindTypes = Callable[[Array, Array, Torn, Torn], Tuple[Array, Array]]
"""Finds types if some are lost: :func:`.torn_btf.find_types`."""

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
_ENUMERATOR_WORDS = {kind: _SHAPES[kind][1] for kind in (BtfKind.ENUM, BtfKind.ENUM64)}


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
    :param lost: Which bytes of the data are lost, as in :class:`.torn.Torn`.
    :param find_types: How types are found if some are.
    :raises SymbolsError: if the data is damaged, with the offset of the damage.
    """

    def __init__(
        self,
        data: bytes,
        base: Optional["BtfData"] = None,
        lost: Sequence[Tuple[int, int]] = (),
        find_types: Optional[FindTypes] = None,
    ) -> None:
        self._data = data
        self._torn = Torn(data, tuple(lost))
        self._base = base
        if base and base.is_torn:
            raise self._damaged(
                0, "parts of the kernel's own, which it needs, are lost"
            )
        self.first_id: int = base.end_id if base else 1
        self._first_string: int = base._end_string if base else 0
        self._read_header()
        self._leads = self._find_leads()
        starts, self.ids = self._find_types(find_types)
        """The number of each type that was found, ascending."""
        self.end_id: int = int(self.ids[-1]) + 1 if len(starts) else self.first_id
        self._end_string: int = self._first_string + len(self._strings)
        self.starts = starts
        """The word of the type section at which each begins."""
        self._name_offsets = self._words[starts]
        info = self._words[starts + 1]
        self._kinds: Array = ((info >> 24) & 0x7F).astype(np.uint8)
        self._kind_bytes = self._kinds.tobytes()
        if not self.is_torn:
            self._check_functions()
        self._names: Dict[int, _NameIndex] = {}
        self._enumerators: Optional[_NameIndex] = None
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

    @property
    def is_torn(self) -> bool:
        """Whether parts of it are lost."""
        return bool(self._torn.lost)

    def kind(self, id: int) -> int:
        """Return the kind of a type, 0 if there is none of this number."""
        if self._base and id < self.first_id:
            return self._base.kind(id)
        row = self._row(id)
        return 0 if row is None else self._kind_bytes[row]

    def _row(self, id: int) -> Optional[int]:
        """Return which of the types that were found has a number, None if none has."""
        row = id - self.first_id
        if self.is_torn:
            row = int(np.searchsorted(self.ids, id))
            if row < len(self.ids) and self.ids[row] != id:
                return None
        return row if 0 <= row < len(self.ids) else None

    def record(self, id: int) -> BtfRecord:
        """
        Return a type.

        :raises SymbolsError: if there is none of this number.
        """
        if self._base and 0 < id < self.first_id:
            return self._base.record(id)
        row = self._row(id)
        if row is None:
            raise self._damaged(0, f"there is no type {id}")
        at = int(self.starts[row])
        words: List[int] = self._words[at : self._leads[at]].tolist()
        name, info, size_or_type = words[:_HEAD_WORDS]
        kind = info >> 24 & 0x7F
        fixed, each = _SHAPES.get(kind, (0, 0))
        first = _HEAD_WORDS + fixed
        count = info & 0xFFFFFF if each else 0
        return BtfRecord(
            id=id,
            kind=kind,
            name=self.name(name, at),
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
        end = self._strings.index(b"\0", start)
        if self.is_torn and not self._torn_strings.has(start, end + 1):
            raise self._damaged(
                self._type_offset + word * _WORD, f"string {offset} is lost"
            )
        raw = self._strings[start:end]
        return raw.decode("utf-8", "backslashreplace")

    def name(self, offset: int, word: int = 0) -> str:
        """Return a string, or what stands for one that is lost."""
        if self.has_string(offset):
            return self.string(offset, word)
        return f"{LOST_NAME}{offset}"

    def has_string(self, offset: int) -> bool:
        """Return whether a string is there, or damaged, rather than lost."""
        if self._base and offset < self._first_string:
            return self._base.has_string(offset)
        if not self.is_torn:
            return True
        start = offset - self._first_string
        return self._torn_strings.has(start, self._strings.find(b"\0", start) + 1)

    def find(self, kind: int, name: str) -> List[int]:
        """Return the numbers of this blob's types of a kind and name, ascending."""
        if kind not in self._names:
            rows = np.flatnonzero((self._kinds == kind) & (self._name_offsets != 0))
            self._names[kind] = self._index(rows, self._name_offsets[rows])
        return self._names[kind].find(name)

    def find_nameless(self, kind: int, count: int) -> List[int]:
        """Return the numbers of types whose name is lost, and that have so many parts."""
        info = self._words[self.starts + 1]
        rows = np.flatnonzero((self._kinds == kind) & (info & 0xFFFFFF == count))
        return [
            int(self.ids[row])
            for row in rows[self._name_offsets[rows] != 0].tolist()
            if not self.has_string(int(self._name_offsets[row]))
        ]

    def find_enumerator(self, name: str) -> List[int]:
        """Return the numbers of the types that have an enumerator of this name."""
        if self._enumerators is None:
            rows, places = zip(*map(self._enumerator_places, _ENUMERATOR_WORDS))
            offsets = self._words[np.concatenate(places)]
            self._enumerators = self._index(np.concatenate(rows), offsets)
        return self._enumerators.find(name)

    def _enumerator_places(self, kind: BtfKind) -> Tuple[Array, Array]:
        """Return for each enumerator the row of its type, and the word of its name."""
        rows = np.flatnonzero(self._kinds == kind)
        counts = self._words[self.starts[rows] + 1] & 0xFFFFFF
        row, index = spread(counts)
        row = rows[row]
        first = self.starts[row] + _HEAD_WORDS
        return row, first + index * _ENUMERATOR_WORDS[kind]

    def _index(self, rows: Array, offsets: Array) -> "_NameIndex":
        """
        Make an index of names.

        :param rows: Of the types that they belong to.
        :param offsets: Where each begins in the strings.
        """
        self._check_strings(rows, offsets)
        return _NameIndex(self, self.ids[rows], offsets)

    def _check_strings(self, rows: Array, offsets: Array) -> None:
        """See that there are strings at these offsets, which types of these rows name."""
        for at in np.flatnonzero(offsets >= self._end_string)[:1].tolist():
            self.string(int(offsets[at]), int(self.starts[rows[at]]))

    def heads(self, offsets: Array) -> U64Array:
        """Return the first bytes of strings, each read as a little-endian number."""
        found = np.empty(len(offsets), np.uint64)
        own = offsets >= self._first_string
        if self._base:
            found[~own] = self._base.heads(offsets[~own])
        data = self._strings + bytes(HEAD_BYTES)
        windows: Array = np.ndarray(len(self._strings) + 1, "<u8", data, strides=(1,))
        found[own] = windows[offsets[own] - self._first_string]
        return found

    def has_sound_strings(self) -> bool:
        """
        Return whether all strings are texts, none is empty but the first, and each name of a
        type is the whole of one: so libbpf writes them.
        """
        codes = np.frombuffer(self._strings, np.uint8)
        ends = codes == 0
        names = self._name_offsets[self._name_offsets > 0]
        return bool(
            (ends | (codes >= ord(" ")) & (codes <= ord("~"))).all()
            and not (ends[1:] & ends[:-1]).any()
            and (names < len(codes)).all()
            and ends[names - 1].all()
        )

    def heads_of_functions(self) -> U64Array:
        """Return the first bytes of functions' names, of those that have as many."""
        rows = np.flatnonzero(self._kinds == BtfKind.FUNC)
        self._check_strings(rows, self._name_offsets[rows])
        heads = self.heads(self._name_offsets[rows])
        whole = (heads.view(np.uint8).reshape(-1, HEAD_BYTES) != 0).all(axis=1)
        found: U64Array = heads[whole]
        return found

    def _check_functions(self) -> None:
        """See that functions have prototypes: if types are miscounted, they have others."""
        functions = self.starts[self._kinds == BtfKind.FUNC]
        rows = self._words[functions + 2] - self.first_id
        own = rows >= 0 if self._base else np.ones(len(rows), bool)
        kinds = np.append(self._kinds, 0)
        found = kinds[np.where((rows >= 0) & (rows < len(self._kinds)), rows, -1)]
        for at in functions[own & (found != BtfKind.FUNC_PROTO)][:1].tolist():
            place = self._type_offset + at * _WORD
            raise self._damaged(place, "a function has no prototype")

    def _find_odd_ints(self) -> Dict[int, Tuple[int, int]]:
        found = dict(self._base.odd_ints) if self._base else {}
        for row in np.flatnonzero(self._kinds == BtfKind.INT).tolist():
            size, encoding = self._words[self.starts[row] + [2, 3]].tolist()
            if encoding & 0xFF not in (0, 8 * size):
                found[int(self.ids[row])] = (encoding >> 16 & 0xFF, encoding & 0xFF)
        return found

    def damaged(self, record: BtfRecord, why: str) -> SymbolsError:
        """Return the error that a record is damaged."""
        return self._damaged(record.offset, why)

    def _damaged(self, offset: int, why: str) -> SymbolsError:
        return SymbolsError(
            f"the kernel's BTF is damaged at offset {offset:#x} ({why}): {GET_DEBUG_INFO}"
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
        begin = self._header_bytes + sections[2]
        self._torn_strings = self._torn.part(begin, begin + sections[3])
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
        fixed, each = np.zeros(_KINDS, np.int32), np.zeros(_KINDS, np.int32)
        # Since Linux kernel commit 222edc843c15 ("btf: Add BTF kind layout encoding to
        # UAPI") (in v7.1), a section may tell the shapes of all kinds, so that those
        # that are not known can be passed over.
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

    def _find_types(self, find: Optional[FindTypes]) -> Tuple[Array, Array]:
        """Return the word at which each type begins, and its number, ascending."""
        if not self.is_torn or find is None:
            starts = self._find_starts()
            return starts, self.first_id + np.arange(len(starts))
        begin, end = self._type_offset, self._type_offset + _WORD * len(self._words)
        types = self._torn.part(begin, end)
        starts, ids = find(self._words, self._leads, types, self._torn_strings)
        order = np.argsort(ids, kind="stable")
        return starts[order], ids[order]

    def _find_starts(self) -> Array:
        """Return the word at which each type begins."""
        leads = self._leads
        end, nowhere = len(leads) - 2, len(leads) - 1
        # There are a hundred thousand, so this takes eight steps at once, and looks at
        # those between afterwards.
        hops = leads
        for _ in range(3):
            hops = hops[hops]
        hop = hops.data
        found: List[int] = []
        at = 0
        while at < end:
            found.append(at)
            at = hop[at]
        steps = [np.array(found, np.int64)]
        for _ in range(7):
            steps.append(leads[steps[-1]])
        starts = np.stack(steps, axis=1).reshape(-1)
        starts = starts[starts < end]
        if at == nowhere:
            raise self._leads_nowhere(int(starts[-1]))
        return starts

    def _find_leads(self) -> Array:
        """
        Return where the next type would begin if one began at each word.

        Two more stand behind these, each of which leads to itself: the end, and where
        types lead that are damaged or of a kind that is not known.
        """
        fixed, each = self._shapes()
        end = len(self._words)
        leads: Array = np.arange(end + 2, dtype=np.int32)
        if not end:
            return leads
        info = np.append(self._words[1:], 0).astype(np.int32)
        kind = (info >> 24 & 0x7F).astype(np.intp)
        size = fixed.take(kind)
        size += each.take(kind) * (info & 0xFFFFFF)
        leads[:end] += size
        leads[:end][(size < _HEAD_WORDS) | (leads[:end] > end)] = end + 1
        return leads

    def _leads_nowhere(self, at: int) -> SymbolsError:
        """Return the error that no type can begin behind the one at a word."""
        kind = int(self._words[at + 1] >> 24 & 0x7F) if at + 1 < len(self._words) else 0
        fixed, _ = self._shapes()
        why = "a type reaches behind the end"
        if fixed[kind] < _HEAD_WORDS:
            why = f"kind {kind} is unknown"
        return self._damaged(self._type_offset + at * _WORD, why)


class _NameIndex:
    """
    Names and what has them. Of all, only a few bytes are looked at: names are as many
    as types, and few are ever asked for.

    :param ids: Numbers of the types that have them.
    :param offsets: Where each begins in the strings.
    """

    def __init__(self, data: BtfData, ids: Array, offsets: Array) -> None:
        self._data = data
        self._ids = ids
        self._offsets = offsets
        self._heads = data.heads(offsets)

    def find(self, name: str) -> List[int]:
        """Return the numbers of the types that have a name."""
        return [
            int(self._ids[at])
            for at in rows_with_head(
                self._heads, name.encode("utf-8", "surrogateescape")
            )
            if self._data.has_string(int(self._offsets[at]))
            and self._data.string(int(self._offsets[at])) == name
        ]
