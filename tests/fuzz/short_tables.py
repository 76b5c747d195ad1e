# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A sample with little BTF and few symbols: those that the project's code names, and some
others. Reading all of them takes most of a trial's time, and nearly all are of nothing
that verbs look at.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Iterator, Mapping, Sequence

import drgn_vmap
from drgn_vmap.kernel.types.btf_data import BtfData, BtfKind, BtfRecord
from tests.fakes.btf import Maker

from .image import Image
from .inputs import Write
from .places import VARIABLES, Places
from .symbols import SymbolTable

__all__ = ("SHORT", "with_short_tables")

SHORT = "-short"
"""Behind a sample's name."""
_SOURCES = Path(drgn_vmap.__file__).parent
_ONE_IN = 64
"""Of other symbols, how many are kept."""
_COMPOUND = (BtfKind.STRUCT, BtfKind.UNION)
_REFERRING = (
    *(BtfKind.PTR, BtfKind.TYPEDEF, BtfKind.VOLATILE, BtfKind.CONST, BtfKind.RESTRICT),
    *(BtfKind.FUNC, BtfKind.FUNC_PROTO, BtfKind.VAR, BtfKind.DECL_TAG),
    BtfKind.TYPE_TAG,
)
"""Kinds that have a type where others have a size."""
_TYPE_OF_ELEMENT: Mapping[int, int] = {
    BtfKind.STRUCT: 1,
    BtfKind.UNION: 1,
    BtfKind.FUNC_PROTO: 1,
    BtfKind.DATASEC: 0,
}
"""Which word of a member, parameter or variable is its type; the one before, its name."""
_NAMED_ELEMENTS = (*_COMPOUND, BtfKind.FUNC_PROTO, BtfKind.ENUM, BtfKind.ENUM64)


def with_short_tables(image: Image, places: Places) -> Image:
    """
    Return a sample that is like another, but for its BTF and its symbols.

    :param places: The other's.
    """
    wanted = _names_of_interest()
    table = SymbolTable(image, places)
    entries = {
        entry.name: entry
        for index, entry in enumerate(table.entries())
        if entry.name in wanted or index % _ONE_IN == 0
    }
    begin, end = entries["__start_BTF"].address, entries["__stop_BTF"]
    at = places.offset(begin)
    assert at is not None
    btf = _short_btf(BtfData(image.data[at : at + end.address - begin]), wanted)
    entries[end.name] = replace(end, address=begin + len(btf))
    by_address = sorted(entries.values(), key=lambda entry: entry.address)
    _, name = image.open_file(
        [Write(at, btf.hex(), "BTF"), *table.only(by_address)],
    )
    return Image(f"{image.name}{SHORT}", Path(name).read_bytes())


def _names_of_interest() -> set[str]:
    """Return all that may be a name of the kernel's in the project's code."""
    names = {*VARIABLES, "__start_BTF", "__stop_BTF", "elf64_sym"}
    for path in _SOURCES.rglob("*.py"):
        names.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return names


def _short_btf(btf: BtfData, wanted: set[str]) -> bytes:
    """Return the types of these names, and those that they are made of."""
    kept = _kept(btf, wanted)
    maker = Maker()
    numbers = {0: 0, **{old: new for new, old in enumerate(sorted(kept), 1)}}
    for old in sorted(kept):
        record = btf.record(old)
        if not kept[old]:
            is_union = record.kind == BtfKind.UNION
            maker.add(BtfKind.FWD, record.name, flag=is_union)
            continue
        size_or_type = record.size_or_type
        if record.kind in _REFERRING:
            size_or_type = numbers[size_or_type]
        fixed = record.fixed
        if record.kind == BtfKind.ARRAY:
            fixed = (numbers[fixed[0]], numbers[fixed[1]], fixed[2])
        elements = [
            _element(btf, maker, record.kind, element, numbers)
            for element in record.elements
            if record.kind != BtfKind.DATASEC or element[0] in numbers
        ]
        maker.add(
            record.kind,
            record.name,
            size_or_type,
            [*fixed, *chain.from_iterable(elements)],
            vlen=len(elements),
            flag=record.flag,
        )
    return maker.data()


def _element(
    btf: BtfData,
    maker: Maker,
    kind: int,
    element: Sequence[int],
    numbers: Mapping[int, int],
) -> list[int]:
    """Return a member, parameter, enumerator or variable with its new numbers."""
    words = [*element]
    if kind in _NAMED_ELEMENTS:
        words[0] = maker.string(btf.string(words[0]))
    if kind in _TYPE_OF_ELEMENT:
        word = _TYPE_OF_ELEMENT[kind]
        words[word] = numbers[words[word]]
    return words


def _kept(btf: BtfData, wanted: set[str]) -> dict[int, bool]:
    """Return types by number, and whether all of each is kept, or its name alone."""
    kept: dict[int, bool] = {}
    seen: set[tuple[int, bool]] = {(0, False), (0, True)}
    todo = [
        (number, True)
        for number in btf.ids.tolist()
        for record in [btf.record(number)]
        if record.kind == BtfKind.DATASEC or record.name in wanted
    ]
    while todo:
        number, is_needed = one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        record = btf.record(number)
        is_whole = is_needed or record.kind not in _COMPOUND or not record.name
        kept[number] = kept.get(number, False) or is_whole
        if is_whole:
            # What is only pointed to is not needed.
            is_needed = is_needed and record.kind != BtfKind.PTR
            todo += [(other, is_needed) for other in _referred(record)]
    return kept


def _referred(record: BtfRecord) -> Iterator[int]:
    """Yield the numbers of the types that a type is made of."""
    if record.kind in _REFERRING:
        yield record.size_or_type
    if record.kind == BtfKind.ARRAY:
        yield from record.fixed[:2]
    # A section has all variables, whether they are kept or not.
    if record.kind in _TYPE_OF_ELEMENT and record.kind != BtfKind.DATASEC:
        word = _TYPE_OF_ELEMENT[record.kind]
        yield from (element[word] for element in record.elements)
