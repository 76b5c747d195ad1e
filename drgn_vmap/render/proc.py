# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
proc
----

Areas as lines of /proc/vmallocinfo, byte for byte (mm/vmalloc.c).
"""

from typing import Dict, Iterator, List, Tuple

from .._numpy import Array, U64Array, np
from ..model import VM_FLAGS, AreaTable, Snapshot, State
from .escape import printable
from .pointers import PointerFormat

__all__ = ("proc_lines",)

_LINES_AT_ONCE = 20_000

# Flags that have a label, in the order of the labels.
_LABELS = (
    ("VM_IOREMAP", " ioremap"),
    ("VM_SPARSE", " sparse"),
    ("VM_ALLOC", " vmalloc"),
    ("VM_MAP", " vmap"),
    ("VM_USERMAP", " user"),
    ("VM_DMA_COHERENT", " dma-coherent"),
)

# The kernel lists busy and lazy areas; the words for the rest are our own.
_PLAIN_LABELS = {
    State.BUSY: "vm_map_ram",
    State.LAZY: "unpurged vm_area",
    State.PURGING: "purging",
    State.POOL: "pool",
    State.FREE: "free",
}


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
    kernel = snapshot.kernel
    start = np.where(areas.vm_ok, areas.addr, areas.start)
    size = np.where(areas.vm_ok, areas.size, areas.end - areas.start)
    heads = map(_head, pointers(start), pointers(start + size), size.tolist())
    tails = map(
        _tail,
        [callers[caller] for caller in areas.caller.tolist()],
        areas.nr_pages.tolist(),
        _phys_texts(areas.phys_addr, kernel.rules.phys_digits),
        _label_texts(areas, kernel.rules.sparse_label),
        _numa_texts(areas.numa_pages, kernel.numa_nodes),
    )
    return "".join(f"{head}{tail}\n" for head, tail in zip(heads, tails))


def _head(start: str, end: str, size: int) -> str:
    return f"0x{start}-0x{end} {size:7d}"


def _tail(caller: str, nr_pages: int, phys: str, labels: str, numa: str) -> str:
    pages = f" pages={nr_pages}" if nr_pages else ""
    return f"{caller}{pages}{phys}{labels}{numa}"


def _phys_texts(phys_addr: U64Array, digits: int) -> List[str]:
    return [f" phys=0x{phys:0{digits}x}" if phys else "" for phys in phys_addr.tolist()]


def _label_texts(areas: AreaTable, sparse_label: bool) -> List[str]:
    """Return the labels of each area; few combinations exist, so each is made once."""
    labels = [
        (VM_FLAGS[name], label)
        for name, label in _LABELS
        if sparse_label or name != "VM_SPARSE"
    ]
    made: Dict[Tuple[bool, bool, int, bool, int], str] = {}
    texts = []
    for key in zip(
        (areas.vm != 0).tolist(),
        areas.vm_ok.tolist(),
        areas.flags.tolist(),
        areas.vpages.tolist(),
        areas.state.tolist(),
    ):
        if key not in made:
            has_vm, vm_ok, flags, vpages, state = key
            if vm_ok:
                text = "".join(label for flag, label in labels if flags & flag)
                made[key] = text + (" vpages" if vpages else "")
            elif has_vm:
                made[key] = " vm_struct unreadable"
            else:
                made[key] = f" {_PLAIN_LABELS[State(state)]}"
        texts.append(made[key])
    return texts


def _numa_texts(numa_pages: Array, nodes: Tuple[int, ...]) -> List[str]:
    texts = [""] * len(numa_pages)
    for node, counts in zip(nodes, numa_pages.T):
        texts = [
            f"{text} N{node}={count}" if count else text
            for text, count in zip(texts, counts.tolist())
        ]
    return texts
