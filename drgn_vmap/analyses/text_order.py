# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Areas of a text beside one another
----------------------------------

Lines that are whole by themselves may still be no listing that a kernel prints: one
that is there twice, areas that overlap, or another order.
"""

from typing import Iterator, Set

from .._numpy import Array, np
from ..model.areas import Problem, ProblemKind, State
from ..model.vmallocinfo import PLAIN_LABELS
from .text_lines import PLAIN, Lines

__all__ = ("order_problems", "repeated_rows")

_SHOWN = 3
_ZONE = np.uint64(1 << 16)
"""Bytes that lie in one vmap node, of pages of 4 KiB: 16 pages."""
_MAX_NODES = 128


def repeated_rows(lines: Lines) -> Array:
    """Return which lines stand there before, word by word and with an address."""
    again = np.zeros(len(lines), bool)
    order = np.argsort(lines.start, kind="stable")
    start = lines.start[order]
    same = np.flatnonzero((start[1:] == start[:-1]) & (start[1:] != 0)) + 1
    seen: Set[str] = set()
    for at in np.union1d(same, same - 1).tolist():
        row = int(order[at])
        text = lines.text(row)
        again[row] = text in seen
        seen.add(text)
    return again


def order_problems(name: str, lines: Lines) -> Iterator[Problem]:
    """Yield what is wrong with areas, whose addresses are real, side by side."""
    start, end = lines.place, lines.place + lines.size
    order = np.argsort(start, kind="stable")
    reach = np.maximum.accumulate(end[order])
    over = np.flatnonzero(start[order][1:] < reach[:-1]) + 1
    for at in over[:_SHOWN].tolist():
        row = int(order[at])
        yield Problem(
            ProblemKind.OVERLAPPING,
            f"{name}, line {int(lines.number[row])}",
            f"{int(start[row]):#x}-{int(end[row]):#x} overlaps another area: no such two "
            "exist at one moment, so a sum counts some addresses twice",
        )
    if len(over) > _SHOWN:
        detail = f"{len(over) - _SHOWN} more areas overlap others"
        yield Problem(ProblemKind.OVERLAPPING, name, detail)
    busy = lines.plain != PLAIN.index(PLAIN_LABELS[State.LAZY])
    if not _is_an_order(start[busy]):
        yield Problem(
            ProblemKind.MENDED, name, "its lines are in an order that no kernel prints"
        )


def _is_an_order(start: Array) -> bool:
    """Whether busy areas are in the order of addresses, or so within each vmap node."""
    downs = np.flatnonzero(start[1:] < start[:-1])
    if not len(downs):
        return True
    if len(downs) >= _MAX_NODES:
        return False
    zone = start // _ZONE
    return any(
        bool((np.diff((zone % np.uint64(nodes)).astype(np.int64)) >= 0).all())
        for nodes in range(len(downs) + 1, _MAX_NODES + 1)
    )
