# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
proc
----

Areas as lines of /proc/vmallocinfo, byte for byte (mm/vmalloc.c).
"""

from typing import Dict, Iterator, List

from .._numpy import Array, U64Array, np
from ..model.areas import VM_LAZY_FREE, AreaTable, Kernel, Snapshot, State
from ..model.vmallocinfo import PLAIN_LABELS, VPAGES, flag_labels, line_tail
from .escape import printable
from .pointers import PointerFormat
from .repeats import texts_of_rows

__all__ = ("proc_lines",)

_LINES_AT_ONCE = 4_000


def proc_lines(
    snapshot: Snapshot, rows: Array, pointers: PointerFormat
) -> Iterator[str]:
    """
    Yield the lines, many in one text.

    :param rows: Rows of ``snapshot.areas`` in the order to print them.
    :param pointers: How to print addresses.
    """
    callers = {
        address: " " + printable(text) for address, text in snapshot.callers.items()
    }
    callers[0] = ""
    for at in range(0, len(rows), _LINES_AT_ONCE):
        areas = snapshot.areas.take(rows[at : at + _LINES_AT_ONCE])
        yield _lines(snapshot, areas, callers, pointers)


def _lines(
    snapshot: Snapshot,
    areas: AreaTable,
    callers: Dict[int, str],
    pointers: PointerFormat,
) -> str:
    start = np.where(areas.vm_ok, areas.addr, areas.start)
    size = np.where(areas.vm_ok, areas.vm_size, areas.end - areas.start)
    ends = _line_ends(snapshot.kernel, areas, size, callers)
    # Joined at once: a string a line takes twice as long.
    parts = ["0x", "", "-0x", "", ""] * len(ends)
    parts[1::5], parts[3::5], parts[4::5] = (
        pointers(start),
        pointers(start + size),
        ends,
    )
    return "".join(parts)


def _line_ends(
    kernel: Kernel, areas: AreaTable, size: U64Array, callers: Dict[int, str]
) -> List[str]:
    """Return what follows the addresses."""
    columns = (
        size,
        areas.caller,
        areas.nr_pages,
        areas.phys_addr,
        areas.flags,
        areas.vm != 0,
        areas.vm_ok,
        areas.vpages,
        _state_printed(kernel, areas),
        *areas.numa_pages.T,
    )

    def make(rows: Array) -> Iterator[str]:
        values = zip(*(column[rows].tolist() for column in columns))
        for size, caller, *rest in values:
            yield _line_end(kernel, callers[caller], size, *rest)

    return texts_of_rows(columns, make)


def _state_printed(kernel: Kernel, areas: AreaTable) -> Array:
    """Return the state that the line of each area has in its words."""
    if not kernel.rules.lazy_by_flag:
        return areas.state
    unmarked = areas.va_flags & np.uint64(VM_LAZY_FREE) == 0
    unmarked &= areas.state == State.LAZY
    return np.where(unmarked, int(State.BUSY), areas.state)


def _line_end(
    kernel: Kernel,
    caller: str,
    size: int,
    nr_pages: int,
    phys: int,
    flags: int,
    has_vm: int,
    vm_ok: int,
    vpages: int,
    state: int,
    *numa_pages: int,
) -> str:
    at = f"0x{phys:0{kernel.rules.phys_digits}x}" if phys else ""
    if vm_ok:
        labels = flag_labels(flags, kernel.rules.sparse_label)
        labels += f" {VPAGES}" if vpages else ""
    elif has_vm:
        labels = " vm_struct unreadable"
    else:
        labels = f" {PLAIN_LABELS[State(state)]}"
    numa = zip(kernel.numa_nodes, numa_pages)
    return f"{line_tail(size, caller, nr_pages, at, labels, numa)}\n"
