# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A copy of /proc/vmallocinfo
---------------------------

Reads areas back from the text that a kernel printed (mm/vmalloc.c of 5.10 and later). A
line counts only if what was understood of it, printed again, is that line; any
other becomes a :class:`~drgn_vmap.model.areas.Problem` and is never guessed at.
"""

import math
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Union

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
from ..model.saved import SavedText
from ..model.vmallocinfo import PLAIN_LABELS, VPAGES, Line, parse_line
from .describe import describe

__all__ = ("areas_from_text", "describe_saved")

_ADVICE = "give a copy of /proc/vmallocinfo, unedited"
_SHOWN = 60
_MAX_NODES = 1024
_LIMIT = 1 << 64

_WORDS = {words: state for state, words in PLAIN_LABELS.items()}


def areas_from_text(name: str, text: str) -> SavedText:
    """
    Read a copy of /proc/vmallocinfo.

    :param name: Of the file, for messages.
    :raises UsageError: if no line of it is one of that file.
    """
    lines, texts, problems = [], [], []
    *whole, rest = text.split("\n")
    for number, one in enumerate(whole, 1):
        found = _line(one)
        if isinstance(found, str):
            problems.append(_problem(name, number, one, found))
        else:
            lines.append(found)
            texts.append(one)
    if rest:
        problems.append(_problem(name, len(whole) + 1, rest, "it has no line end"))
    if not lines:
        what = "is empty" if not text else "is no /proc/vmallocinfo"
        raise UsageError(f"{name} {what}: {_ADVICE}")
    snapshot = _snapshot(lines, problems)
    return SavedText(name, snapshot, tuple(texts), _pointers(lines))


def describe_saved(saved: SavedText, rows: Optional[Array] = None) -> Iterator[Area]:
    """Yield areas one by one, with only what the text told."""
    for area in describe(saved.snapshot, rows):
        yield Area(
            start=area.start,
            end=area.end,
            state=area.state,
            kinds=area.kinds,
            caller=area.caller,
            pages=area.pages,
            phys=area.phys,
            numa=area.numa,
        )


def _line(text: str) -> Union[Line, str]:
    """Return what a line says, or why it is none."""
    found = parse_line(text)
    if not found:
        return "it is not of the form that the kernel prints"
    if found.text() != text:
        return f"the kernel would have printed {found.text()[:_SHOWN]!r}"
    if len(found.start) != len(found.end):
        return "its addresses differ in length"
    if not 0 < found.size < _LIMIT - _address(found):
        return f"no area has {found.size} bytes there"
    if any(node >= _MAX_NODES for node, _ in found.numa):
        return f"no machine has {_MAX_NODES} nodes"
    if _address(found) >> 32 and int(found.end, 16) - _address(found) != found.size:
        return f"it is not {found.size} bytes from start to end"
    return found


def _address(line: Line) -> int:
    """Return the start, or the hash of it; 0 if the file does not tell."""
    return 0 if line.start.startswith("(") else int(line.start, 16)


def _problem(name: str, number: int, text: str, why: str) -> Problem:
    shown = repr(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
    return Problem(
        ProblemKind.NOT_UNDERSTOOD, f"{name}, line {number}", f"{shown}: {why}"
    )


def _pointers(lines: Sequence[Line]) -> str:
    """Tell what the addresses are: ``raw``, ``hashed`` or ``none``."""
    if not any(_address(line) for line in lines):
        return "none"
    if all(
        not line.end.startswith("(") and int(line.end, 16) - _address(line) == line.size
        for line in lines
    ):
        return "raw"
    return "hashed"


def _snapshot(lines: Sequence[Line], problems: Sequence[Problem]) -> Snapshot:
    """Make a snapshot of the lines, as if it had been read from a kernel."""
    callers: Dict[str, int] = {}
    for line in lines:
        if line.caller:
            callers.setdefault(line.caller, len(callers) + 1)
    nodes = tuple(sorted({node for line in lines for node, _ in line.numa}))
    areas = _table(lines, callers, nodes)
    names = {number: text for text, number in callers.items()}
    return Snapshot(_kernel(lines, nodes), areas, names, tuple(problems))


def _kernel(lines: Sequence[Line], nodes: Tuple[int, ...]) -> Kernel:
    """Return a kernel that lists whatever there is, in the order that it is in."""
    page_size = 0
    for line in lines:
        page_size = math.gcd(page_size, line.size)
    digits = [len(line.phys) - 2 for line in lines if line.phys]
    return Kernel(
        release="",
        layout="",
        live=False,
        symbols="",
        page_size=page_size,
        word_size=len(lines[0].start) // 2,
        has_va_flags=False,
        has_nodes=False,
        numa_nodes=nodes,
        rules=VmallocinfoRules(True, False, True, False, True, max(digits, default=16)),
    )


def _table(
    lines: Sequence[Line], callers: Dict[str, int], nodes: Tuple[int, ...]
) -> AreaTable:
    start = _column([_address(line) for line in lines])
    size = _column([line.size for line in lines])
    none = np.zeros(len(lines), np.uint64)
    has_vm = np.array([line.plain is None for line in lines], bool)
    flags = [_flags(line) for line in lines]
    numa = np.zeros((len(lines), len(nodes)), np.uint64)
    column = {node: at for at, node in enumerate(nodes)}
    for row, line in enumerate(lines):
        for node, count in line.numa:
            numa[row, column[node]] = count
    states = [_WORDS[line.plain] if line.plain else State.BUSY for line in lines]
    return AreaTable(
        address=none,
        start=start,
        end=start + size,
        state=np.array(states, np.uint8),
        node=np.full(len(lines), -1, np.int16),
        va_flags=none,
        is_block=np.zeros(len(lines), bool),
        vm=has_vm.astype(np.uint64),
        vm_ok=has_vm,
        addr=start,
        size=size,
        flags=_column(flags),
        pages=none,
        nr_pages=_column([line.pages or 0 for line in lines]),
        page_order=none,
        phys_addr=_column([int(line.phys or "0", 16) for line in lines]),
        caller=_column([callers.get(line.caller or "", 0) for line in lines]),
        requested_size=none,
        vpages=np.array([VPAGES in line.labels for line in lines], bool),
        numa_pages=numa,
    )


def _flags(line: Line) -> int:
    return sum(
        VM_FLAGS[VM_LABELS[label]] for label in line.labels if label in VM_LABELS
    )


def _column(values: List[int]) -> Array:
    return np.array(values, np.uint64)
