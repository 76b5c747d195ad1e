# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Lines of /proc/vmallocinfo, in bulk
-----------------------------------

Lines come by the million, so they are read as columns, and only those that are just as
the kernel prints most of them. What is left over is for
:mod:`drgn_vmap.analyses.text_mending`, and is then read one by one.
"""

import re
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import compress, islice
from typing import Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple, overload

from .._numpy import Array, U64Array, np
from ..model.areas import VM_LABELS, State
from ..model.tags import ANY_TAGS
from ..model.vmallocinfo import (
    CALLER,
    HIDDEN,
    PLAIN_LABELS,
    VPAGES,
    LineTail,
    parse_tail,
)
from .text_bulk import Words, eight

__all__ = (
    "KNOWN_LABELS",
    "PLAIN",
    "Lines",
    "Names",
    "Reader",
    "Texts",
    "joined",
    "left_over",
    "vendor_word",
)

KNOWN_LABELS = (*VM_LABELS, VPAGES)
"""Bits of :attr:`Lines.labels`."""
PLAIN = ("", PLAIN_LABELS[State.BUSY], PLAIN_LABELS[State.LAZY])
"""What :attr:`Lines.plain` is an index into."""
_BARE, _PADDED = 1, 2

_AT_ONCE = 1 << 22
"""Bytes of text."""
_LONGEST = 1 << 10
"""Characters of a word; KSYM_NAME_LEN is 512."""
_CALLER = re.compile(CALLER)

# What words are, in the order that they stand in.
_OTHER, _WHO, _MODULE, _PAGES, _PHYS, _LABEL = 0, 2, 3, 4, 5, 6
_COUNT = _LABEL + len(KNOWN_LABELS)
_RAM, _UNPURGED, _AREA = _COUNT + 1, _COUNT + 2, _COUNT + 3


@dataclass
class Names:
    """Texts by number, of which number 0 is nothing."""

    texts: List[str] = field(default_factory=lambda: [""])
    _index: Dict[str, int] = field(default_factory=lambda: {"": 0})

    def numbers(self, texts: Iterable[str]) -> List[int]:
        """Return the numbers of texts."""
        index = self._index
        found = [index.setdefault(text, len(index)) for text in texts]
        self.texts.extend(islice(index, len(self.texts), None))
        return found


@dataclass(frozen=True)
class Lines:
    """Lines that were understood, as columns."""

    number: Array
    """Of the line in the text."""
    width: Array
    """Characters of the line in the text; of one that was wrapped, of its first."""
    start: U64Array
    """0 where it is hidden."""
    end: U64Array
    digits: Array
    """Of an address: 8 or 16."""
    hidden: Array
    """Whether there is something else than digits."""
    size: U64Array
    plain: Array
    """Index into PLAIN."""
    caller: Array
    """Number of the caller's text."""
    pages: U64Array
    phys: U64Array
    form: Array
    """How ``phys`` is printed: 0 not, 1 bare, 10 or 18 characters wide."""
    labels: Array
    """A bit for each of KNOWN_LABELS."""
    word: Array
    """Number of the label that is none of these."""
    is_last: Array
    """Whether that stands at the very end."""
    around: Array
    """What was passed over before and behind it: a bit for each of AROUND."""
    counts: Array
    """How many counts by node there are."""
    node: Array
    """The nodes of all lines' counts, one behind the other."""
    count: U64Array
    """And the counts."""
    callers: Names
    words: Names

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: Array) -> "Lines":
        """Return some of them: indices, or one bool each."""
        if rows.dtype == bool:
            if rows.all():
                return self
            rows = np.flatnonzero(rows)
        counts = self.counts[rows].astype(np.intp)
        behind = np.cumsum(counts) - counts
        flat = np.repeat(self._begins[rows] - behind, counts) + np.arange(counts.sum())
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Lines(
            **columns,
            node=self.node[flat],
            count=self.count[flat],
            callers=self.callers,
            words=self.words,
        )

    @cached_property
    def _begins(self) -> Array:
        """Where the counts of each line begin."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def place(self) -> U64Array:
        """Where each area begins, which is printed with a tag if the pointer has one."""
        return ANY_TAGS.off_all(self.start)

    def line_of_count(self) -> Array:
        """Return the row that each count by node is of."""
        return np.repeat(np.arange(len(self)), self.counts.astype(np.intp))

    def by_node(self) -> U64Array:
        """Return the sum of each row's counts."""
        found = np.zeros(len(self), np.uint64)
        np.add.at(found, self.line_of_count(), self.count)
        return found

    def tail(self, row: int) -> LineTail:
        """Return what a line says behind its addresses."""
        begin = int(self._begins[row])
        end = begin + int(self.counts[row])
        word = self.words.texts[int(self.word[row])]
        form = int(self.form[row])
        phys = int(self.phys[row])
        bits = int(self.labels[row])
        labels = [label for at, label in enumerate(KNOWN_LABELS) if bits >> at & 1]
        is_last = bool(self.is_last[row])
        return LineTail(
            size=int(self.size[row]),
            plain=PLAIN[int(self.plain[row])] or None,
            caller=self.callers.texts[int(self.caller[row])] or None,
            pages=int(self.pages[row]),
            phys="" if not form else f"{phys:x}" if form == 1 else f"{phys:#0{form}x}",
            labels=(*labels, word) if word and not is_last else tuple(labels),
            numa=tuple(
                zip(self.node[begin:end].tolist(), self.count[begin:end].tolist())
            ),
            last=word if is_last else "",
        )

    def text(self, row: int) -> str:
        """Return a line as the kernel prints it."""
        wide = int(self.digits[row])
        head = f"0x{int(self.start[row]):0{wide}x}-0x{int(self.end[row]):0{wide}x}"
        return f"{HIDDEN[wide] if self.hidden[row] else head}{self.tail(row).text()}"


_COLUMNS = tuple(
    one.name
    for one in fields(Lines)
    if one.name not in ("node", "count", "callers", "words")
)


class Texts(Sequence[str]):
    """The texts of lines, made when they are asked for."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> List[str]: ...

    def __getitem__(self, row: "int | slice") -> "str | List[str]":
        if isinstance(row, slice):
            return [self._lines.text(at) for at in range(*row.indices(len(self)))]
        return self._lines.text(range(len(self))[row])


class Reader:
    """Reads lines of one text, which number their callers alike."""

    def __init__(self) -> None:
        self._callers, self._words = Names(), Names()

    def read(self, data: bytes) -> Tuple[Lines, Array]:
        """
        Read a text.

        :return: Lines that are just as the kernel prints them, but for what is around
            them, and where each line of the text begins, and the text ends.
        """
        parts: List[Lines] = [self.read_lines([])]
        callers: List[_Callers] = [_NO_CALLERS]
        begins: List[Array] = [np.zeros(1, np.int64)]
        first, offset = 1, 0
        for chunk in _chunks(data):
            words = Words(chunk)
            part, where = self._read(words, first)
            parts.append(part)
            callers.append(where.moved(offset))
            begins.append(words.line_end + offset + 1)
            first += words.lines
            offset += len(chunk)
        number = self._numbered(data, _Callers(*map(np.concatenate, zip(*callers))))
        whole = replace(joined(parts), caller=number)
        return whole.take(number >= 0), np.concatenate(begins)

    def read_lines(self, lines: Sequence[Tuple[int, int, str]]) -> Lines:
        """
        Read lines that are just as the kernel prints them, one by one.

        :param lines: Their numbers, widths and texts.
        """
        found = [_heads_and_tail(text) for _, _, text in lines]
        tails = [tail for _, tail in found]
        nodes = [count for tail in tails for count in tail.numa]
        words = [vendor_word(tail) for tail in tails]
        addresses = [_addresses(head) for head, _ in found]
        return Lines(
            number=np.array([number for number, _, _ in lines], np.int64),
            width=np.array([width for _, width, _ in lines], np.int64),
            start=np.array([start for start, _ in addresses], np.uint64),
            end=np.array([end for _, end in addresses], np.uint64),
            digits=np.array([len(head) // 2 - 2 for head, _ in found], np.uint8),
            hidden=np.array(["(" in head for head, _ in found], bool),
            size=np.array([min(tail.size, 1 << 63) for tail in tails], np.uint64),
            plain=np.array([PLAIN.index(tail.plain or "") for tail in tails], np.uint8),
            caller=np.array(
                self._callers.numbers(tail.caller or "" for tail in tails), np.int64
            ),
            pages=np.array([tail.pages for tail in tails], np.uint64),
            phys=np.array([int(tail.phys or "0", 16) for tail in tails], np.uint64),
            form=np.array(
                [
                    len(tail.phys) if tail.phys.startswith("0x") else bool(tail.phys)
                    for tail in tails
                ],
                np.uint8,
            ),
            labels=np.array(
                [
                    sum(
                        1 << at
                        for at, one in enumerate(KNOWN_LABELS)
                        if one in t.labels
                    )
                    for t in tails
                ],
                np.int64,
            ),
            word=np.array(self._words.numbers(words), np.int64),
            is_last=np.array([bool(tail.last) for tail in tails], bool),
            around=np.zeros(len(lines), np.uint8),
            counts=np.array([len(tail.numa) for tail in tails], np.int64),
            node=np.array([node for node, _ in nodes], np.int64),
            count=np.array([count for _, count in nodes], np.uint64),
            callers=self._callers,
            words=self._words,
        )

    def _read(self, words: Words, first: int) -> "Tuple[Lines, _Callers]":
        """
        Read lines of a chunk whose words are where the kernel prints them, except for
        the callers.
        """
        lines = words.lines
        good = (words.words >= 3) & (words.words <= 64)
        good[words.line[words.length > _LONGEST]] = False
        at = np.where(good, words.first, 0) if len(words.begin) else words.first[:0]
        if not good.any():
            return self.read_lines([]), _NO_CALLERS
        rank, node = _ranks(words)
        good &= _in_order(words, rank, node)
        start, end, digits, is_head = _heads(words, at)
        size, is_size = words.decimal(words.end[at + 1], words.length[at + 1])
        good &= is_head & is_size & _is_spaced(words, at)

        def column(kind: Array, values: Array, is_good: Array) -> Array:
            """Put words' values where their lines are."""
            found = np.zeros(lines, values.dtype)
            found[words.line[kind]] = values
            good[words.line[kind[~is_good]]] = False
            return found

        of = np.flatnonzero(rank == _PAGES)
        pages = column(of, *words.decimal(words.end[of], words.length[of] - 6))
        of = np.flatnonzero(rank == _PHYS)
        phys_digits, phys_form, is_form = _phys_form(words, of)
        value, is_phys = words.hexadecimal(words.end[of], phys_digits)
        phys = column(of, value, is_phys & is_form)
        form = column(of, phys_form, is_form)
        of = np.flatnonzero((rank >= _LABEL) & (rank < _COUNT))
        labels = np.zeros(lines, np.int64)
        np.add.at(labels, words.line[of], np.int64(1) << (rank[of] - _LABEL))
        of = np.flatnonzero(rank == _COUNT)
        equals = words.begin[of] + 2 + (node[of] >= 10) + (node[of] >= 100)
        count, is_count = words.decimal(words.end[of], words.end[of] - equals - 1)
        good[words.line[of[~is_count]]] = False
        plain = np.zeros(lines, np.uint8)
        plain[words.line[rank == _RAM]] = 1
        plain[words.line[rank == _AREA]] = 2
        callers = _callers_in(words, rank, good)
        counts = np.bincount(words.line[of], minlength=lines)
        whole = Lines(
            number=np.arange(first, first + lines),
            width=words.line_end - words.line_begin,
            start=start,
            end=end,
            digits=digits,
            hidden=np.zeros(lines, bool),
            size=size,
            plain=plain,
            caller=np.zeros(lines, np.int64),
            pages=pages,
            phys=phys,
            form=form,
            labels=labels,
            word=np.zeros(lines, np.int64),
            is_last=np.zeros(lines, bool),
            around=words.around,
            counts=counts,
            node=node[of],
            count=count,
            callers=self._callers,
            words=self._words,
        )
        return whole.take(good), _Callers(*(column[good] for column in callers))

    def _numbered(self, data: bytes, callers: "_Callers") -> Array:
        """Return the numbers of callers, and -1 of what is none."""
        _, once, group = np.unique(callers.hash, return_index=True, return_inverse=True)
        places = zip(callers.begin[once].tolist(), callers.end[once].tolist())
        texts = [data[begin:end].decode("ascii", "replace") for begin, end in places]
        good = [not text or bool(_CALLER.fullmatch(text)) for text in texts]
        found = np.full(len(once), -1)
        found[good] = self._callers.numbers(compress(texts, good))
        return found[group]


class _Callers(NamedTuple):
    """Where the callers of some lines stand; nowhere, of a line that has none."""

    hash: U64Array
    begin: Array
    end: Array

    def moved(self, offset: int) -> "_Callers":
        """Return them for a text in which they stand so much further on."""
        return _Callers(self.hash, self.begin + offset, self.end + offset)


_NO_CALLERS = _Callers(np.zeros(0, np.uint64), *np.zeros((2, 0), np.int64))


def _callers_in(words: Words, rank: Array, good: Array) -> _Callers:
    """Return where callers are, one for each line."""
    of = np.flatnonzero((rank == _WHO) & good[words.line])
    last = of.copy()
    module = np.flatnonzero((rank == _MODULE) & good[words.line])
    last[np.searchsorted(of, module - 1)] = module
    begin = np.zeros(words.lines, np.int64)
    end = np.zeros(words.lines, np.int64)
    begin[words.line[of]] = words.begin[of]
    end[words.line[of]] = words.end[last]
    return _Callers(words.hashes(begin, end), begin, end)


def left_over(data: bytes, begins: Array, lines: Lines) -> List[Tuple[int, bytes]]:
    """
    Return what was not read of a text.

    :param begins: Where each line of it begins, and it ends.
    :param lines: What was read.
    :return: The other lines by their numbers, each run of them with the line before.
    """
    odd = np.ones(len(begins), bool)
    odd[0] = odd[lines.number] = False
    wanted = np.flatnonzero(odd)
    return [
        (at, data[begins[at - 1] : begins[at]].rstrip(b"\n"))
        for at in np.union1d(wanted, wanted - 1).tolist()
        if at
    ]


def joined(parts: Sequence[Lines]) -> Lines:
    """Return the lines of all parts, which one reader read, by their numbers."""
    columns = {
        one.name: np.concatenate([getattr(part, one.name) for part in parts])
        for one in fields(Lines)
        if one.name not in ("callers", "words")
    }
    whole = Lines(**columns, callers=parts[0].callers, words=parts[0].words)
    if (np.diff(whole.number) > 0).all():
        return whole
    return whole.take(np.argsort(whole.number, kind="stable"))


def _chunks(data: bytes) -> Iterator[bytes]:
    """Yield many lines at a time, each with a line feed at its end."""
    at = 0
    while at < len(data):
        end = data.find(b"\n", min(at + _AT_ONCE, len(data) - 1)) + 1
        yield data[at:end] if end else data[at:] + b"\n"
        at = end or len(data)


def _heads_and_tail(text: str) -> Tuple[str, LineTail]:
    head, _, _ = text.partition(" ")
    tail = parse_tail(text[len(head) :])
    assert tail is not None
    return head, tail


def _addresses(head: str) -> Tuple[int, int]:
    if "(" in head:
        return 0, 0
    start, end = head.split("-")
    return int(start, 16), int(end, 16)


def vendor_word(tail: LineTail) -> str:
    """Return the label that is none of Linux's, or nothing."""
    last = tail.labels[-1] if tail.labels else ""
    return tail.last or ("" if last in KNOWN_LABELS else last)


def _ranks(words: Words) -> Tuple[Array, Array]:
    """Return what each word is, and the node that it counts pages of."""
    key, length = words.key, words.length
    rank = np.zeros(len(key), np.int64)
    node = np.zeros(len(key), np.int64)
    rank[words.index == 2] = _WHO
    rank[key & np.uint64(0xFF) == ord("[")] = _MODULE
    rank[key & np.uint64((1 << 48) - 1) == eight("pages=")] = _PAGES
    rank[key & np.uint64((1 << 40) - 1) == eight("phys=")] = _PHYS
    for at, label in enumerate((*KNOWN_LABELS, None, PLAIN[1], "unpurged", "vm_area")):
        if label is not None:
            is_it = (key == eight(label)) & (length == len(label))
            if len(label) > 8:
                rows = np.flatnonzero(is_it)
                is_it[rows] = words.at(words.end[rows] - 8) == eight(label[-8:])
            rank[is_it] = _LABEL + at
    of = np.flatnonzero(key & np.uint64(0xFF) == ord("N"))
    for width in (1, 2, 3):
        some = of[words.byte(words.begin[of] + 1 + width) == ord("=")]
        end = words.begin[some] + 1 + width
        # Node 0 has the one leading zero.
        zero = (width == 1) & (words.byte(end - 1) == ord("0"))
        value, is_node = words.decimal(end, np.full(len(some), width))
        some, value = some[is_node | zero], value[is_node | zero]
        rank[some], node[some] = _COUNT, value.astype(np.int64)
    return rank, node


def _in_order(words: Words, rank: Array, node: Array) -> Array:
    """Return in which lines the words behind the size are in the kernel's order."""
    behind = words.index >= 2
    bad = behind & (rank == _OTHER)
    step = np.zeros(len(rank), bool)
    step[1:] = rank[1:] > rank[:-1]
    step[1:] |= (rank[1:] == _COUNT) & (rank[:-1] == _COUNT) & (node[1:] > node[:-1])
    before = np.concatenate(([0], rank[:-1]))
    bad |= (words.index >= 3) & ~step
    bad |= (rank == _MODULE) & ((before != _WHO) | (words.index != 3))
    bad |= (rank == _AREA) & ((before != _UNPURGED) | (words.index != 3))
    bad |= ((rank == _RAM) | (rank == _UNPURGED)) & (words.index != 2)
    last = words.first + words.words - 1
    good = np.ones(words.lines, bool)
    good[words.line[bad]] = False
    some = np.flatnonzero(words.words > 0)
    good[some] &= rank[last[some]] != _UNPURGED
    has_ram = words.line[(rank == _RAM) | (rank == _AREA)]
    good[has_ram] &= words.index[last[has_ram]] <= 3
    good[words.line[rank == _RAM]] &= words.words[words.line[rank == _RAM]] == 3
    return good


def _heads(words: Words, at: Array) -> Tuple[U64Array, U64Array, Array, Array]:
    """Return start, end and digits of addresses, and where there are any."""
    begin, end, length = words.begin[at], words.end[at], words.length[at]
    good = (length == 21) | (length == 37)
    digits = np.where(length == 37, 16, 8)
    middle = begin + 2 + digits
    start, is_start = words.hexadecimal(middle, digits)
    stop, is_stop = words.hexadecimal(end, digits)
    good &= is_start & is_stop
    good &= words.at(begin) & np.uint64(0xFFFF) == eight("0x")
    good &= words.at(middle) & np.uint64(0xFFFFFF) == eight("-0x")
    return start, stop, digits.astype(np.uint8), good


def _is_spaced(words: Words, at: Array) -> Array:
    """Return in which lines blanks are just the kernel's."""
    gap = np.ones(len(words.begin), np.int64)
    gap[1:] = words.begin[1:] - words.end[:-1]
    wide = (words.index != 1) & (words.index != 0) & (gap != 1)
    good = np.ones(words.lines, bool)
    good[words.line[wide]] = False
    good &= words.begin[at] == words.text_begin
    some = words.words > 0
    last = np.where(some, words.first + words.words - 1, 0)
    good &= words.end[last] == words.text_end
    padding = np.maximum(7 - words.length[at + 1], 0) + 1
    return good & (gap[at + 1] == padding)


def _phys_form(words: Words, of: Array) -> Tuple[Array, Array, Array]:
    """Return how many digits a physical address has, its form, and if it has one."""
    length = words.length[of] - 5
    place = words.begin[of] + 5
    padded = words.at(place) & np.uint64(0xFFFF) == eight("0x")
    digits = np.where(padded, length - 2, length)
    good = ~padded | (digits == 8) | (digits == 16)
    good &= padded | (words.byte(place) != ord("0"))
    form = np.where(padded, length, 1).astype(np.uint8)
    return digits, form, good
