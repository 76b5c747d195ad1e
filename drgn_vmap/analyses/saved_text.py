# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A copy of /proc/vmallocinfo
---------------------------

Reads areas back from the text that a kernel printed (mm/vmalloc.c, since 5.10). A
line counts only if what was understood of it, printed again, is that line; any
other becomes a :class:`~drgn_vmap.model.areas.Problem` and is never guessed at.
"""

import math
import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Match, Optional, Sequence, Tuple, Union

from .._numpy import Array, np
from ..errors import UsageError
from ..model.areas import (
    VM_FLAGS,
    Area,
    AreaTable,
    Kernel,
    Problem,
    Snapshot,
    State,
    VmallocinfoRules,
)
from ..model.saved import SavedText
from .describe import describe

__all__ = ("areas_from_text", "describe_saved")

_ADVICE = "give a copy of /proc/vmallocinfo, unedited"
_SHOWN = 60
_MAX_NODES = 1024
_LIMIT = 1 << 64

_LABELS = {
    "ioremap": "VM_IOREMAP",
    "sparse": "VM_SPARSE",
    "vmalloc": "VM_ALLOC",
    "vmap": "VM_MAP",
    "user": "VM_USERMAP",
    "dma-coherent": "VM_DMA_COHERENT",
}
"""Labels in the order that they are printed in."""

_PLAIN = {"vm_map_ram": State.BUSY, "unpurged vm_area": State.LAZY}
"""What stands behind an area that has no vm_struct."""

# %pK: 8 or 16 digits, or what stands there before the kernel drew a key.
_POINTER = r"[0-9a-f]{16}|[0-9a-f]{8}|\(____ptrval____\)|\(ptrval\)"
# %pS: a symbol, or the bare address of code that is gone.
_SYMBOL = r"\S+\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^\s\[\]]+\])?"
_LINE = re.compile(
    rf"0x(?P<start>{_POINTER})-0x(?P<end>{_POINTER}) +(?P<size>[0-9]{{1,20}})"
    rf"(?: (?P<plain>{'|'.join(_PLAIN)})|"
    rf"(?: (?P<caller>{_SYMBOL}|0x[0-9a-f]+))?"
    r"(?: pages=(?P<pages>[0-9]{1,19}))?(?: phys=0x(?P<phys>[0-9a-f]{8,16}))?"
    rf"(?P<labels>{''.join(f'(?: {label})?' for label in _LABELS)})"
    r"(?P<vpages> vpages)?(?P<numa>(?: N[0-9]{1,4}=[0-9]{1,19})*))"
)


@dataclass(frozen=True)
class _Line:
    """One line, understood; pointers and the physical address by their digits."""

    start: str
    end: str
    size: int
    plain: Optional[str]
    caller: Optional[str]
    pages: Optional[int]
    phys: Optional[str]
    labels: Tuple[str, ...]
    vpages: bool
    numa: Tuple[Tuple[int, int], ...]

    def text(self) -> str:
        """Return the line as the kernel prints it."""
        parts = [f"0x{self.start}-0x{self.end} {self.size:7d}"]
        parts += [self.plain] if self.plain else []
        parts += [self.caller] if self.caller else []
        parts += [f"pages={self.pages}"] if self.pages else []
        parts += [f"phys=0x{self.phys}"] if self.phys else []
        parts += [*self.labels, *(["vpages"] if self.vpages else [])]
        parts += [f"N{node}={count}" for node, count in self.numa]
        return " ".join(parts)

    @property
    def address(self) -> int:
        """Start, or the hash of it; 0 if the file does not tell."""
        return 0 if self.start.startswith("(") else int(self.start, 16)


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


def _line(text: str) -> Union[_Line, str]:
    """Return what a line says, or why it is none."""
    match = _LINE.fullmatch(text)
    if not match:
        return "it is not of the form that the kernel prints"
    found = _understood(match)
    if found.text() != text:
        return f"the kernel would have printed {found.text()[:_SHOWN]!r}"
    if len(found.start) != len(found.end):
        return "its addresses differ in length"
    if not 0 < found.size < _LIMIT - found.address:
        return f"no area has {found.size} bytes there"
    if any(node >= _MAX_NODES for node, _ in found.numa):
        return f"no machine has {_MAX_NODES} nodes"
    if found.address >> 32 and int(found.end, 16) - found.address != found.size:
        return f"it is not {found.size} bytes from start to end"
    return found


def _understood(match: "Match[str]") -> _Line:
    pages = match["pages"]
    counts = re.findall(r"N(\d+)=(\d+)", match["numa"] or "")
    return _Line(
        start=match["start"],
        end=match["end"],
        size=int(match["size"]),
        plain=match["plain"],
        caller=match["caller"],
        pages=int(pages) if pages else None,
        phys=match["phys"],
        labels=tuple((match["labels"] or "").split()),
        vpages=bool(match["vpages"]),
        numa=tuple((int(node), int(count)) for node, count in counts),
    )


def _problem(name: str, number: int, text: str, why: str) -> Problem:
    shown = repr(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
    return Problem("not understood", f"{name}, line {number}", f"{shown}: {why}")


def _pointers(lines: Sequence[_Line]) -> str:
    """Tell what the addresses are: ``raw``, ``hashed`` or ``none``."""
    if not any(line.address for line in lines):
        return "none"
    if all(
        not line.end.startswith("(") and int(line.end, 16) - line.address == line.size
        for line in lines
    ):
        return "raw"
    return "hashed"


def _snapshot(lines: Sequence[_Line], problems: Sequence[Problem]) -> Snapshot:
    """Make a snapshot of the lines, as if it had been read from a kernel."""
    callers: Dict[str, int] = {}
    for line in lines:
        if line.caller:
            callers.setdefault(line.caller, len(callers) + 1)
    nodes = tuple(sorted({node for line in lines for node, _ in line.numa}))
    areas = _table(lines, callers, nodes)
    names = {number: text for text, number in callers.items()}
    return Snapshot(_kernel(lines, nodes), areas, names, tuple(problems))


def _kernel(lines: Sequence[_Line], nodes: Tuple[int, ...]) -> Kernel:
    """Return a kernel that lists whatever there is, in the order that it is in."""
    page_size = 0
    for line in lines:
        page_size = math.gcd(page_size, line.size)
    digits = [len(line.phys) for line in lines if line.phys]
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
    lines: Sequence[_Line], callers: Dict[str, int], nodes: Tuple[int, ...]
) -> AreaTable:
    start = _column([line.address for line in lines])
    size = _column([line.size for line in lines])
    none = np.zeros(len(lines), np.uint64)
    has_vm = np.array([line.plain is None for line in lines], bool)
    flags = [sum(VM_FLAGS[_LABELS[label]] for label in line.labels) for line in lines]
    numa = np.zeros((len(lines), len(nodes)), np.uint64)
    column = {node: at for at, node in enumerate(nodes)}
    for row, line in enumerate(lines):
        for node, count in line.numa:
            numa[row, column[node]] = count
    states = [_PLAIN[line.plain] if line.plain else State.BUSY for line in lines]
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
        vpages=np.array([line.vpages for line in lines], bool),
        numa_pages=numa,
    )


def _column(values: List[int]) -> Array:
    return np.array(values, np.uint64)
