# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A copy of /proc/vmallocinfo
---------------------------

Reads areas back from the text that a kernel printed, since 2.6.28, as people have it. A
line counts only if it can be understood in one way, and if nothing that is known of
areas or that the other lines tell speaks against it; any other becomes a
:class:`~drgn_vmap.model.areas.Problem` and is never guessed at.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import (
    Counter,
    Iterator,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from .._numpy import Array, np
from ..errors import UsageError
from ..model.areas import (
    VM_FLAGS,
    VM_LABELS,
    Area,
    AreaTable,
    Kernel,
    Problem,
    ProblemKind,
    Snapshot,
    State,
    VmallocinfoRules,
)
from ..model.saved import SavedAreas, SavedText
from ..model.vmallocinfo import PLAIN_LABELS, VPAGES, LineTail
from .describe import describe
from .text_around import AROUND
from .text_checks import SMALLEST_PAGE, Checked, check_lines, page_size_of, tail_faults
from .text_lines import KNOWN_LABELS, PLAIN, Lines, Reader, Texts, joined, left_over
from .text_listings import as_vmallocinfo
from .text_mending import Fault, Mended, mend
from .text_order import order_problems, repeated_rows
from .text_snapshots import Part, parts_of

__all__ = ("areas_from_text", "describe_saved", "text_of_areas", "texts_in")

_ADVICE = "give a copy of /proc/vmallocinfo"
_SHOWN = 160
_STATES = {words: state for state, words in PLAIN_LABELS.items()}
_VENDOR_BIT = 32
"""The first bit of ``flags`` that stands for a vendor's label: Linux has none there."""
_VENDOR_LABELS = 31
_POINTER_BYTES = 8
_MAX_COUNTS = 1 << 27
"""Pages by node, of all lines, that are kept."""


def areas_from_text(
    name: str, text: Union[str, bytes], number: Optional[int] = None
) -> SavedText:
    """
    Read a copy of /proc/vmallocinfo.

    :param name: Of the file, for messages.
    :param number: Which of several snapshots, from 1 on; the last one by default.
    :raises UsageError: if no line of it is one of that file, or if there is no such
        snapshot.
    """
    found = _read(name, text)
    count = len(found.parts)
    if number is not None and not 1 <= number <= count:
        raise UsageError(f"{name} has no snapshot {number}: the last is {count}")
    saved = _saved(found, count if number is None else number)
    if count == 1:
        return saved
    named = f", {saved.title!r}" if saved.title else ""
    detail = f"it holds {count} snapshots; this is number {saved.number}{named}"
    problems = (*saved.snapshot.problems, Problem(ProblemKind.MENDED, name, detail))
    return replace(saved, snapshot=replace(saved.snapshot, problems=problems))


def texts_in(name: str, text: Union[str, bytes]) -> Tuple[SavedText, ...]:
    """
    Read all snapshots that a text holds, in order.

    :raises UsageError: if no line of it is one of /proc/vmallocinfo.
    """
    found = _read(name, text)
    return tuple(_saved(found, number + 1) for number in range(len(found.parts)))


def text_of_areas(saved: SavedAreas) -> SavedText:
    """
    Return what /proc/vmallocinfo would have said of areas.

    :raises UsageError: if it would have said nothing.
    """
    listed = [area for area in saved.areas if area.state <= State.LAZY]
    if not listed:
        raise UsageError(f"{saved.name} has no area in use: give another file")
    texts = [_line_of(area) for area in listed]
    lines = Reader().read_lines([(at, 0, text) for at, text in enumerate(texts, 1)])
    page_size = page_size_of(lines)
    blocks = sum("vmap_block" in area.kinds for area in listed)
    # Arrays of pages that fit into one page are not in vmalloc space.
    page = page_size or SMALLEST_PAGE
    long = sum((area.pages or 0) * _POINTER_BYTES > page for area in listed)
    kinds = Counter(
        {
            "vmap_block taken for vm_map_ram": blocks,
            f"{VPAGES} left out, if it was there": long,
        }
    )
    found = _Read(
        name=saved.name,
        lines=lines,
        doubtful=np.zeros(len(lines), bool),
        checked=Checked(saved.pointers, page_size),
        parts=[Part(0, len(lines), "")],
        faults=(),
        mended=+kinds,
    )
    return _saved(found, 1)


def _line_of(area: Area) -> str:
    """Return the line that /proc/vmallocinfo has for an area, as of 64 bits."""
    plain = PLAIN_LABELS[area.state] if area.state != State.BUSY else None
    if {"vm_map_ram", "vmap_block"} & {*area.kinds}:
        plain = PLAIN_LABELS[State.BUSY]
    tail = LineTail(
        size=area.size,
        plain=plain,
        caller=None if plain else area.caller,
        pages=0 if plain else area.pages or 0,
        phys=f"{area.phys:#018x}" if area.phys and not plain else "",
        labels=tuple(label for label in VM_LABELS if label in area.kinds),
        numa=() if plain else tuple(sorted((area.numa or {}).items())),
    )
    return f"0x{area.start:016x}-0x{area.end:016x}{tail.text()}"


def describe_saved(saved: SavedText, rows: Optional[Array] = None) -> Iterator[Area]:
    """Yield areas one by one, with only what the text told."""
    for area in describe(saved.snapshot, rows):
        yield replace(
            area,
            vmap_node=None,
            va_flags=None,
            vm_flags=None,
            caller_addr=None,
            page_order=None,
            requested_size=None,
        )


@dataclass(frozen=True)
class _Read:
    """All that a text holds."""

    name: str
    lines: Lines
    doubtful: Array
    """Which of these have pages by node that do not add up."""
    checked: Checked
    parts: Sequence[Part]
    faults: Sequence[Fault]
    """By their numbers, in order."""
    mended: "Counter[str]"
    tool: str = ""
    """Whose listing it is, if not the kernel's."""

    @cached_property
    def fault_numbers(self) -> Array:
        """The numbers of the lines that are left out, in order."""
        return np.array([fault.number for fault in self.faults], np.int64)


def _read(name: str, text: Union[str, bytes]) -> _Read:
    data = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text
    data, tool = as_vmallocinfo(data)
    reader = Reader()
    lines, begins = reader.read(data)
    lines = _without_faulty(lines)
    rest = left_over(data, begins, lines)
    mended = mend((at, line.decode("utf-8", "backslashreplace")) for at, line in rest)
    if rest:
        lines = _with_mended(reader, lines, [at for at, _ in rest], mended)
    if not len(lines):
        what = "is empty" if not data.strip() else "is no /proc/vmallocinfo"
        raise UsageError(f"{name} {what}{_first(mended.faults)}: {_ADVICE}")
    blanks = np.isin(lines.number, np.array(sorted(mended.blanks), np.int64))
    checked = check_lines(lines, blanks)
    _refuse_at_edge(lines, checked, mended.faults)
    faults = [
        Fault(int(lines.number[row]), lines.text(row), why)
        for row, why in checked.faults.items()
    ]
    faults = sorted([*mended.faults, *faults], key=lambda fault: fault.number)
    whole = np.ones(len(lines), bool)
    whole[list(checked.faults)] = False
    if not whole.any():
        raise UsageError(
            f"{name} has no line of /proc/vmallocinfo that is whole{_first(faults)}: "
            f"{_ADVICE}"
        )
    doubtful = np.zeros(len(lines), bool)
    doubtful[checked.doubtful] = True
    kinds = _around(lines) + mended.kinds
    kinds["notes between them"] = sum(bool(text.strip()) for _, text in mended.notes)
    if not data.endswith(b"\n"):
        kinds["no end of line"] = 1
    lines = lines.take(whole)
    return _Read(
        name=name,
        lines=lines,
        doubtful=doubtful[whole],
        checked=checked,
        parts=parts_of(lines, mended.notes),
        faults=faults,
        mended=+kinds,
        tool=tool,
    )


def _without_faulty(lines: Lines) -> Lines:
    """
    Return lines without those that something speaks against and something stands
    around: what is said of these shows it.
    """
    rows = np.flatnonzero(lines.around)
    if not len(rows):
        return lines
    good = np.ones(len(lines), bool)
    good[rows[list(tail_faults(lines.take(rows)))]] = False
    return lines.take(good)


def _around(lines: Lines) -> "Counter[str]":
    """Return how many lines had what around them."""
    return Counter(
        {
            kind: np.count_nonzero(lines.around & 1 << at)
            for at, kind in enumerate(AROUND)
        }
    )


def _with_mended(
    reader: Reader, lines: Lines, given: Sequence[int], mended: Mended
) -> Lines:
    """Return the lines, with those that were mended instead of those given for it."""
    kept = lines.take(~np.isin(lines.number, np.array(given, np.int64)))
    return joined([kept, reader.read_lines(mended.lines)])


def _refuse_at_edge(lines: Lines, checked: Checked, faults: Sequence[Fault]) -> None:
    """Refuse lines that end where others are cut off: they may go on, too."""
    widths = [len(fault.text) for fault in faults]
    widths += lines.width[list(checked.faults)].tolist()
    edge = max(widths, default=0)
    if widths.count(edge) < 2 or lines.width.max() > edge:
        return
    for row in np.flatnonzero(lines.width == edge).tolist():
        why = f"it ends at column {edge}, where others are cut off"
        checked.faults.setdefault(row, why)


def _first(faults: Sequence[Fault]) -> str:
    return f" (line {faults[0].number}: {faults[0].why})" if faults else ""


def _saved(found: _Read, number: int) -> SavedText:
    """Make a snapshot of some lines, as if it had been read from a kernel."""
    # There may be many parts, so none costs anything of all lines.
    part = found.parts[number - 1]
    rows = np.arange(part.first, part.last)
    again = repeated_rows(found.lines.take(rows))
    rows = rows[~again]
    lines = found.lines.take(rows)
    problems = [
        *_faults_of(found, number),
        *_doubts(found, lines, found.doubtful[rows]),
        *_repeats(found, part, again),
        *(order_problems(found.name, lines) if found.checked.pointers == "raw" else ()),
        *_what_was_mended(found),
    ]
    nodes = tuple(np.unique(lines.node).tolist())
    names = lines.callers.texts
    snapshot = Snapshot(
        kernel=_kernel(found, lines, nodes),
        areas=_table(lines, nodes, found.doubtful[rows]),
        callers={number: text for number, text in enumerate(names) if text},
        problems=tuple(problems),
        labels=tuple(lines.words.texts[1 : _VENDOR_LABELS + 1]),
    )
    return SavedText(
        name=found.name,
        snapshot=snapshot,
        lines=Texts(lines),
        pointers=found.checked.pointers,
        title=part.title,
        number=number,
        count=len(found.parts),
        left_out=sum(one.what == ProblemKind.NOT_UNDERSTOOD for one in problems),
    )


def _faults_of(found: _Read, number: int) -> Iterator[Problem]:
    """Yield the lines that were left out of a snapshot."""
    lines, parts = found.lines.number, found.parts
    low = 0 if number == 1 else int(lines[parts[number - 2].last - 1])
    last = parts[number - 1].last
    high = int(lines[last]) if last < len(lines) else 1 << 62
    begin, end = np.searchsorted(found.fault_numbers, (low + 1, high)).tolist()
    for fault in found.faults[begin:end]:
        text = fault.text
        shown = repr(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
        where = f"{found.name}, line {fault.number}"
        yield Problem(ProblemKind.NOT_UNDERSTOOD, where, f"{fault.why}: {shown}")


def _doubts(found: _Read, lines: Lines, doubtful: Array) -> Iterator[Problem]:
    for row in np.flatnonzero(doubtful).tolist():
        tail = lines.tail(row)
        counted = sum(count for _, count in tail.numa)
        why = (
            f"counts {counted} by node: the kernel may have counted while they changed"
            if tail.numa
            else "no N counts: the kernel may have been setting it up, or it is cut short"
        )
        yield Problem(
            ProblemKind.RACING,
            f"{found.name}, line {int(lines.number[row])}",
            f"it has {tail.pages} pages but {why}; its nodes are taken for unknown",
        )


def _repeats(found: _Read, part: Part, again: Array) -> Iterator[Problem]:
    for row in np.flatnonzero(again).tolist():
        number = int(found.lines.number[part.first + row])
        yield Problem(
            ProblemKind.REPEATED,
            f"{found.name}, line {number}",
            "the same line stands there before; it is counted once",
        )


def _what_was_mended(found: _Read) -> Iterator[Problem]:
    said = [f"{kind} ({times})" for kind, times in sorted(found.mended.items())]
    if found.tool:
        yield Problem(ProblemKind.MENDED, found.name, f"it is of {found.tool}")
    if said:
        yield Problem(
            ProblemKind.MENDED, found.name, f"lines were read with {', '.join(said)}"
        )


def _table(lines: Lines, nodes: Tuple[int, ...], doubtful: Array) -> AreaTable:
    """
    Return lines as areas.

    :param doubtful: Those whose counts by node are not believed.
    """
    if len(nodes) * len(lines) > _MAX_COUNTS:
        raise UsageError(f"it names {len(nodes)} nodes, too many to be true: {_ADVICE}")
    none = np.zeros(len(lines), np.uint64)
    has_vm = lines.plain == 0
    numa = np.zeros((len(lines), len(nodes)), np.uint64)
    column = np.searchsorted(np.array(nodes, np.int64), lines.node)
    numa[lines.line_of_count(), column] = lines.count
    numa[doubtful] = 0
    states = [_STATES.get(words, State.BUSY) for words in PLAIN]
    return AreaTable(
        address=none,
        start=lines.place,
        end=lines.place + lines.size,
        state=np.array(states, np.uint8)[lines.plain],
        vmap_node=np.full(len(lines), -1, np.int16),
        va_flags=none,
        is_block=np.zeros(len(lines), bool),
        vm=has_vm.astype(np.uint64),
        vm_ok=has_vm,
        addr=lines.start,
        vm_size=lines.size,
        flags=_flags(lines),
        page_array=none,
        nr_pages=lines.pages,
        page_order=none,
        phys_addr=lines.phys,
        caller=lines.caller.astype(np.uint64),
        requested_size=none,
        vpages=lines.labels >> KNOWN_LABELS.index(VPAGES) & 1 != 0,
        numa_pages=numa,
        owners=np.zeros(len(lines), np.int64),
    )


def _flags(lines: Lines) -> Array:
    """Return the VM_* flags that labels stand for, and a bit for a vendor's."""
    found = np.zeros(len(lines), np.uint64)
    for at, label in enumerate(KNOWN_LABELS):
        if label in VM_LABELS:
            has_it = (lines.labels >> at & 1).astype(np.uint64)
            found |= has_it * np.uint64(VM_FLAGS[VM_LABELS[label]])
    word = np.minimum(lines.word, _VENDOR_LABELS + 1)
    bits = [0, *(1 << (_VENDOR_BIT + at) for at in range(_VENDOR_LABELS)), 0]
    return found | np.array(bits, np.uint64)[word]


def _kernel(found: _Read, lines: Lines, nodes: Tuple[int, ...]) -> Kernel:
    """Return a kernel that lists whatever there is, in the order that it is in."""
    return Kernel(
        release="",
        layout="",
        live=False,
        symbols="",
        page_size=found.checked.page_size or SMALLEST_PAGE,
        word_size=int(lines.digits[0]) // 2,
        has_va_flags=False,
        has_nodes=False,
        numa_nodes=nodes,
        rules=VmallocinfoRules(
            per_node=True,
            ram_by_flag=False,
            uninitialized_listed=True,
            lazy_by_flag=False,
            lazy_after_vm_only=False,
            sparse_label=True,
            phys_digits=max(int(lines.form.max()) - 2, 8),
        ),
    )
