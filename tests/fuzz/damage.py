# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be wrong with a vmcore, drawn at random for one sample."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from random import Random
from typing import Iterator, Sequence

from drgn import Program

from .image import PAGE, Image
from .inputs import Cut, Edit, Lose, Note, Write
from .places import Place, Places
from .tables import Tables

__all__ = ("Damage",)

_TOP = 1 << 64
_FEW_VALUES = (0, 1, 2, _TOP - 1, 1 << 22, 1 << 28, 1 << 31, (1 << 32) - 1, 1 << 47)
_ADDRESSES = (_TOP - 8, _TOP - PAGE, _TOP - (2 << 20), 0x1000, 0x1234567890ABCDEF)
_ELF_HEADER: tuple[tuple[int, int], ...]
_ELF_HEADER = ((16, 2), (18, 2), (20, 4), (24, 8), (32, 8), (40, 8), (48, 4))
_ELF_HEADER += ((52, 2), (54, 2), (56, 2), (58, 2), (60, 2), (62, 2))
_PROGRAM_HEADER = ((0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 8), (48, 8))
_MOST_ALIKE = 60
_ACTIVITY = "VMAP_SLICE_ACTIVITY"
_NUMBERS = (
    *("0", "1", "-1", "3", "4095", "8192", "65536", "1e3", "", " ", "x", "0x"),
    *("f" * 16, "f" * 17, "9" * 400, str(1 << 31), str(1 << 63), str(1 << 64)),
)
_WORDS = ("\x1b[31m<b>", "\0", "\u202e", "é", "a" * 5000, "=", "\r", "((", "%s{}")
_NOTES = (
    *("", "x", "5", "null", "{}", "[1]", "[[]]", "[null]", '"text"', '["\\ud800"]'),
    *(
        '["\\u001b[31m<b>"]',
        "[" * 100_000,
        "9" * 5000,
        "NaN",
        '{"a":1}',
        "[1,",
        "1e999",
    ),
)


class Damage:
    """
    Damage to one sample.

    :param prog: An undamaged program that has types.
    """

    def __init__(self, image: Image, places: Places, prog: Program) -> None:
        self._image = image
        self._places = places
        self._tables = Tables(image, places, prog)

    def members(self, draw: Random) -> Iterator[Edit]:
        """Members of objects: one or a few, or one of many objects alike."""
        place = self._places.draw_member(draw)
        while self._places.offset(place.address) is None:
            place = self._places.draw_member(draw)
        value = self._value(draw, place)
        yield from self._written(place, value)
        if draw.random() < 0.15:
            same = self._places.same_members(place)
            count = min(len(same), draw.randrange(1, _MOST_ALIKE))
            for other in draw.sample(same, count):
                yield from self._written(other, value)
        while draw.random() < 0.3:
            place = self._places.draw_member(draw)
            yield from self._written(place, self._value(draw, place))

    def words(self, draw: Random) -> Iterator[Edit]:
        """Words that were read by themselves, as of page tables, or on pages."""
        for _ in range(draw.choice((1, 1, 1, 2, 5, 20))):
            if draw.random() < 0.5:
                at = draw.choice(self._places.words)
            else:
                at = self._places.word_of_a_page(draw)
            size = draw.choice((8, 8, 8, 4, 4, 2, 1))
            at += draw.randrange(0, 8, size)
            yield self._write(at, self._word(draw, at, size), size, "word")

    def pages(self, draw: Random) -> Iterator[Edit]:
        """Whole pages: lost, of zeros, or of something else."""
        frames = self._image.frames()
        share = draw.choice((0, 0.001, 0.01, 0.1, 0.5))
        count = max(1, round(share * len(frames)))
        how = draw.choice(("lose", "lose", "zero", "other"))
        if share == 0 and how != "other":
            # Single ones are drawn among those that verbs read.
            yield self._page(draw, draw.choice(self._places.pages), how)
            return
        for frame in draw.sample(frames, count):
            if how == "lose":
                yield Lose(frame)
            else:
                yield self._page(draw, self._image.at_frame(frame), how)

    def types(self, draw: Random) -> Iterator[Edit]:
        """BTF and kallsyms."""
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            name, at, size = self._tables.draw(draw)
            old = int.from_bytes(self._image.data[at : at + size], "little")
            mask = (1 << 8 * size) - 1
            new = draw.choice(
                (
                    0,
                    mask,
                    old ^ 1 << draw.randrange(8 * size),
                    old + draw.choice((1, -1, 8, -8)) & mask,
                    draw.randrange(mask + 1),
                    draw.choice((1, 2, 3, 8, 64)),
                )
            )
            yield self._write(at, new, size, name)

    def vmcoreinfo(self, draw: Random) -> Iterator[Edit]:
        """Lines of VMCOREINFO: the numbers, the names, and which are there at all."""
        lines = self._image.vmcoreinfo.decode().splitlines()
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            at = draw.randrange(len(lines))
            wanted = draw.choice(
                ("PAGESIZE", "OSRELEASE", "SYMBOL", "NUMBER", "", "", "")
            )
            named = [i for i, line in enumerate(lines) if line.startswith(wanted)]
            at = draw.choice(named or [at])
            name, _, value = lines[at].partition("=")
            how = draw.choice(
                ("number", "number", "word", "drop", "twice", "name", "join")
            )
            if how == "number":
                lines[at] = (
                    f"{name}={draw.choice((*_NUMBERS, value + '0', '-' + value))}"
                )
            elif how == "word":
                lines[at] = f"{name}={draw.choice(_WORDS)}"
            elif how == "drop":
                lines[at] = ""
            elif how == "twice":
                lines.append(f"{name}={draw.choice(_NUMBERS)}")
            elif how == "name":
                lines[at] = f"{name[: draw.randrange(len(name) + 1)]}={value}"
            else:
                lines[at] += lines[draw.randrange(len(lines))]
        text = "\n".join(lines) + "\n"
        data = text.encode("utf-8", "surrogateescape")
        if draw.random() < 0.1:
            data = data[: draw.randrange(len(data))]
        if draw.random() < 0.1:
            at = draw.randrange(len(data) + 1)
            data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
        yield Note(data.hex())

    def activity(self, draw: Random) -> Iterator[Edit]:
        """The note that only slices have."""
        text = self._image.vmcoreinfo.decode()
        note = draw.choice((*_NOTES, json.dumps([draw.choice(_WORDS)] * 3)))
        text = re.sub(rf"(?m)^{_ACTIVITY}=.*$", lambda _: f"{_ACTIVITY}={note}", text)
        yield Note(text.encode("utf-8", "surrogatepass").hex())

    def elf(self, draw: Random) -> Iterator[Edit]:
        """The file itself: its headers, and where it ends."""
        data = self._image.data
        for _ in range(draw.choice((1, 1, 2, 5))):
            how = draw.choice(("header", "program header", "note", "cut", "byte"))
            if how == "cut":
                near = draw.choice((0, 64, 200, len(data) // 2, len(data)))
                most = draw.randrange(len(data))
                yield Cut(draw.choice((most, max(0, near - draw.randrange(100)))))
            elif how == "note":
                at = self._image.note[0] + 4 * draw.randrange(6)
                yield self._write(at, self._word(draw, at, 4), 4, how)
            elif how == "byte":
                at = draw.randrange(64)
                yield self._write(at, draw.randrange(256), 1, how)
            else:
                (start,) = struct.unpack_from("<Q", data, 32)
                count = 1 + len(self._image.loads)
                header = start + 56 * draw.randrange(count)
                fields: Sequence[tuple[int, int]] = _PROGRAM_HEADER
                if how == "header":
                    header, fields = 0, _ELF_HEADER
                field, size = draw.choice(fields)
                new = self._word(draw, header + field, size)
                yield self._write(header + field, new, size, f"{how}+{field}")

    def _page(self, draw: Random, at: int, how: str) -> Edit:
        if how == "lose":
            for load in self._image.loads:
                if load.offset <= at < load.offset + load.size:
                    return Lose((load.physical + at - load.offset) // PAGE)
        data = bytes(PAGE)
        if how == "other":
            other = PAGE * draw.randrange(len(self._image.data) // PAGE)
            data = self._image.data[other : other + PAGE]
        return Write(at - at % PAGE, data.hex(), f"page: {how}")

    def _written(self, place: Place, value: int) -> Iterator[Edit]:
        at = self._places.offset(place.address)
        if at is not None:
            what = f"{place.name} at {place.address:#x}"
            yield self._write(at, value, place.size, what)

    def _write(self, at: int, value: int, size: int, where: str) -> Write:
        data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        old = self._image.data[at : at + size]
        where = f"{where}: {int.from_bytes(old, 'little'):#x} -> {value % _TOP:#x}"
        return Write(at, data.hex(), where)

    def _word(self, draw: Random, at: int, size: int) -> int:
        """Return what could be at an offset in the file that should not."""
        old = int.from_bytes(self._image.data[at : at + size], "little")
        if draw.random() < 0.4:
            return old + draw.choice((1, -1, 8, PAGE, 1 << 30, 1 << 60, 1 << 63))
        place = replace(self._places.draw_member(draw), size=size)
        return self._value(draw, place)

    def _value(self, draw: Random, place: Place) -> int:
        """Return what a member could hold that it should not."""
        how = draw.randrange(12)
        if how < 3:
            return draw.choice(_FEW_VALUES)
        if how < 4:
            return draw.choice(_ADDRESSES) + draw.choice((0, 0, 1, -1))
        if how < 7:
            # Cycles, and trees and lists that run into one another.
            return self._places.draw_same_member(draw, place).link
        if how < 8:
            return self._places.draw_member(draw).link + draw.choice((0, 0, 3, 1 << 40))
        if how < 9:
            # Added to that address, it wraps around.
            return draw.choice((0, -1, -8)) - self._places.draw_member(draw).address
        old = self._old(place)
        if how < 10:
            return old ^ 1 << draw.randrange(8 * place.size)
        if how < 11:
            return old + draw.choice((1, -1, 8, PAGE, -PAGE, 1 << 30, 1 << 60))
        return draw.getrandbits(8 * place.size)

    def _old(self, place: Place) -> int:
        at = self._places.offset(place.address)
        old = self._image.data[at : at + place.size] if at is not None else b""
        return int.from_bytes(old, "little")
