# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Lines of /proc/vmallocinfo, mended
----------------------------------

People quote, number, prefix, squeeze and wrap what the kernel printed, and write notes
between and behind it. What stands here takes that away and returns lines as the kernel
prints them. A line that reads in no way, or in more than one, is named and left out.
"""

import re
import string
from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from typing import Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from ..model.areas import VM_LABELS
from ..model.vmallocinfo import HEAD, VPAGES, LineTail, parse_tail, sensible_part
from .text_around import CR, INDENT, PREFIX
from .text_checks import tail_fault

__all__ = ("Mended", "Fault", "mend")

_JOINED = 3
"""Lines that one may have been wrapped into, besides the first."""

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_BLANKS = re.compile(r"[ \t\0\u00a0]+")
_HEAD = re.compile(rf"(?<![0-9A-Za-z_.])(?:{HEAD})(?![^ ])")
# What stands behind a line that is whole, if it is a person's.
_MARK = re.compile(r" (?:<|//|#|\(|\*|--|;|!|=>|->|\||\u2190|\u2014)")
_PROSE = re.compile(r" [A-Za-z]{2,}(?: [A-Za-z',.?!]+){2,}$")
_OF_PROSE = f"{string.ascii_letters}',.?! "
_QUOTES = re.compile(r"^[>| ]+")

_LABELS = (*VM_LABELS, VPAGES)
# What only a line of this file says, whole or in part.
_TRACE = re.compile(
    r"^0x|0x[0-9a-f]{5,}.?0x|0x[0-9a-f]{6,}-|-0x[0-9a-f]{5,}|(?:^| )pages=[0-9]"
    r"|(?:^| )phys=[0-9a-f]|(?:^| )N[0-9]+=[0-9]|[0-9]{4} \S+\+0x|vm_map_ram$|unpurged|ptrval"
    r"|\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]]+\])? [a-z]"
)
_PART = (
    r"[0-9]+|pages=[0-9]*|phys=(?:0x)?[0-9a-f]*|N[0-9]+=[0-9]*|vm_map_ram|unpurged|vm_area"
    rf"|{'|'.join(_LABELS)}|[^\s+]+\+0x[0-9a-f]+/0x[0-9a-f]+|\[\w[\w-]*\]"
)
_REST = re.compile(rf"(?:{_PART})(?: (?:{_PART}))*")
"""What a mailer may have put on a line of its own."""


@dataclass(frozen=True)
class Fault:
    """Why a line was left out."""

    number: int
    text: str
    why: str


@dataclass
class Mended:
    """Lines as the kernel prints them, and what was done to get them."""

    lines: List[Tuple[int, int, str]] = field(default_factory=list)
    """Numbers of the lines that they begin on, how many characters these had, texts."""
    kinds: "Counter[str]" = field(default_factory=Counter)
    """How many lines had what done to them."""
    blanks: Set[int] = field(default_factory=set)
    """Numbers of those whose blanks were not the kernel's."""
    notes: List[Tuple[int, str]] = field(default_factory=list)
    """What stands between the lines."""
    faults: List[Fault] = field(default_factory=list)


@dataclass
class _Record:
    """A line from its addresses on, and what follows until the next addresses."""

    number: int
    source: str
    head: str
    parts: List[Tuple[int, str]]
    """The first without the addresses."""
    prefix: str
    kinds: Set[str]


def mend(lines: Iterable[Tuple[int, str]]) -> Mended:
    """
    Mend lines.

    :param lines: By their numbers, in order; a gap between two numbers says that
        lines are missing there, which need no mending.
    """
    mended = Mended()
    record: Optional[_Record] = None
    before = 0
    for number, source in lines:
        if record is not None and number != before + 1:
            _finish(record, mended)
            record = None
        before = number
        text, kinds = _cleaned(source)
        heads = list(_HEAD.finditer(text))
        first = text[: heads[0].start()] if heads else text
        if record is not None and _continues(record, first, bool(heads)):
            record.parts.append((number, _without_prefix(record, first)))
            first = ""
        elif not heads:
            if record is not None:
                _finish(record, mended)
                record = None
            _between(number, source, text, mended)
        for at, head in enumerate(heads):
            if record is not None:
                _finish(record, mended)
            end = heads[at + 1].start() if at + 1 < len(heads) else len(text)
            record = _Record(
                number=number,
                source=source,
                head=head[0],
                parts=[(number, text[head.end() : end].rstrip())],
                prefix=first if at == 0 else "",
                kinds=set(kinds),
            )
    if record is not None:
        _finish(record, mended)
    return mended


def _cleaned(source: str) -> Tuple[str, Set[str]]:
    """Return a line with single blanks and without what is invisible."""
    kinds = set()
    text = source.lstrip("\ufeff")
    if text.endswith("\r"):
        kinds.add(CR)
        text = text.rstrip("\r")
    if "\x1b" in text:
        kinds.add("colours")
        text = _ESCAPES.sub("", text)
    return _BLANKS.sub(" ", text).rstrip(" "), kinds


def _continues(record: _Record, text: str, before_head: bool) -> bool:
    """Whether a line may be the rest of the one before."""
    if len(record.parts) > _JOINED:
        return False
    rest = _without_prefix(record, text)
    if _REST.fullmatch(rest):
        return True
    # Cut somewhere in a word, it is a rest only of what is not whole without it.
    return bool(rest) and not before_head and _tail_of(record.parts) is None


def _without_prefix(record: _Record, text: str) -> str:
    """Take off what the line before has in front of its addresses."""
    if record.prefix:
        shape = "".join(
            (
                r"[0-9]+"
                if part[0].isdigit()
                else r" *" if part[0] == " " else re.escape(part)
            )
            for part in re.findall(r"[0-9]+| +|[^0-9 ]+", record.prefix)
        )
        text = re.sub(rf"^{shape}", "", text)
    return _QUOTES.sub("", text).strip(" ")


def _finish(record: _Record, mended: Mended) -> None:
    """Find the one way in which a record reads."""
    prefix = record.prefix.strip(" ")
    if prefix and record.prefix[-1] != " " and prefix[-1].isalnum():
        _leave_out(record, mended, f"{prefix[-20:]!r} runs into the addresses")
        return
    readings = list(_readings(record))
    if len({(tail, used) for tail, used, _ in readings}) != 1:
        _leave_out(record, mended, _why(record, len(readings)))
        return
    tail, used, noted = readings[0]
    line = f"{record.head}{tail.text()}"
    kinds = set(record.kinds)
    if used > 1:
        kinds.add("wrapped")
    if noted:
        kinds.add("a note behind it")
    if prefix or record.prefix:
        kinds.add(PREFIX if prefix else INDENT)
    unchanged = record.source.lstrip("\ufeff").rstrip("\r")
    if not kinds & {"wrapped", "a note behind it"} and not unchanged.endswith(line):
        kinds.add("other blanks")
        mended.blanks.add(record.number)
    mended.lines.append((record.number, len(record.source), line))
    mended.kinds.update(kinds)
    for number, text in record.parts[used:]:
        _between(number, text, text, mended)


def _readings(record: _Record) -> Iterator[Tuple[LineTail, int, bool]]:
    """Yield in which ways a record reads: how many parts it took, and if a note is off."""
    whole = []
    for used in range(1, len(record.parts) + 1):
        texts = [text for _, text in record.parts[:used]]
        for joints in product((" ", ""), repeat=used - 1):
            text = texts[0] + "".join(map("".join, zip(joints, texts[1:])))
            tail = _sound(text)
            if tail is not None:
                whole.append((tail, used, False))
    if not whole:
        tail = _sound(_without_note(record.parts[0][1]))
        if tail is not None:
            whole.append((tail, 1, True))
    sums = [
        one for one in whole if sum(count for _, count in one[0].numa) == one[0].pages
    ]
    whole = sums or whole
    # What can be part of a line is no note: the longest one is meant, if it is one.
    longest = max((used for _, used, _ in whole), default=1)
    rests = [text for _, text in record.parts[1:longest]]
    if not any(text.isdigit() for text in rests):
        whole = [one for one in whole if one[1] == longest]
    yield from whole


def _without_note(text: str) -> str:
    """Take off what a person wrote behind a line, if anything."""
    # Looked for from the end, as a long text would be gone through from each word on.
    prose = len(text.rstrip(_OF_PROSE))
    notes = (_MARK.search(text), _PROSE.search(text, prose))
    return text[: min((note.start() for note in notes if note), default=len(text))]


def _tail_of(parts: Sequence[Tuple[int, str]]) -> Optional[LineTail]:
    return _sound(" ".join(text for _, text in parts))


def _sound(text: str) -> Optional[LineTail]:
    """Return what a line says behind its addresses, if nothing speaks against it."""
    tail = parse_tail(text)
    return tail if tail is not None and tail_fault(tail) is None else None


def _why(record: _Record, readings: int) -> str:
    if readings:
        return f"it reads in {readings} ways"
    text = record.parts[0][1]
    tail = parse_tail(text)
    if tail is not None:
        return tail_fault(tail) or "it reads in no way"
    return f"it makes no sense {_place(text)}"


def _place(text: str) -> str:
    """Return where a tail stops to make sense, in the words around that place."""
    words = text.split(" ")
    end = sensible_part(text)
    good = text[:end].count(" ") + bool(end)
    before = " ".join(words[max(good - 2, 0) : good]).strip()
    there = " ".join(words[good : good + 2])
    if not there.strip():
        return "at its end"
    return f"from {there!r} on, behind {before!r}" if before else f"at {there!r}"


def _leave_out(record: _Record, mended: Mended, why: str) -> None:
    mended.faults.append(Fault(record.number, record.source, why))
    for number, text in record.parts[1:]:
        if not _REST.fullmatch(text):
            _between(number, text, text, mended)


def _between(number: int, source: str, text: str, mended: Mended) -> None:
    """Tell a note from what is left of a line."""
    bare = _QUOTES.sub("", text)
    if "vmallocinfo" in bare or not (_TRACE.search(bare) or _is_rest(bare)):
        mended.notes.append((number, bare))
    else:
        why = "it is part of a line" if bare else "it is empty"
        mended.faults.append(Fault(number, source, why))


def _is_rest(text: str) -> bool:
    return not text.isdigit() and _REST.fullmatch(text) is not None
