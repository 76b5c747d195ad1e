# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A line of /proc/vmallocinfo
---------------------------

What stands in it and in which order (mm/vmalloc.c), for those who print lines and
for those who read them. Kernels since 2.6.28 print::

    0xSTART-0xEND SIZE CALLER pages=N phys=P LABEL... vpages WORD N0=COUNT...

where all behind SIZE may be missing, or ``vm_map_ram`` or ``unpurged vm_area`` stands
instead of it. What changed over the years:

======  ================================================================================
2.6.28  addresses are real, ``phys=`` has no 0x and no padding
4.13    ``vm_map_ram`` and, where it lies among the others, ``unpurged vm_area``
4.15    ``phys=0x``, as wide as a phys_addr_t; addresses are hashed, see below
5.4     ``unpurged vm_area`` behind all others, no longer in the order of addresses
5.4     ``dma-coherent``
6.9     ``sparse``; areas are listed node by node, no longer by address
======  ================================================================================

An address is 8 or 16 digits, as wide as a pointer; of kernels whose %pK hashes, a hash
of 32 bits, or, before there is a key to hash with, ``(____ptrval____)`` or, where it is
8 digits, ``(ptrval)``; where kptr_restrict hides it, zeros. Kernels of vendors have
a WORD of their own, such as Qualcomm's ``lowmem``.
"""

import re
from dataclasses import dataclass
from typing import Iterable, Mapping, Optional, Tuple

from .areas import VM_FLAGS, VM_LABELS, State

__all__ = (
    "CALLER",
    "HEAD",
    "HIDDEN",
    "PLAIN_LABELS",
    "VPAGES",
    "LineTail",
    "flag_labels",
    "line_tail",
    "parse_tail",
    "sensible_part",
)

VPAGES = "vpages"
"""Said if the array of pages itself lies in vmalloc space."""

# Since Linux kernel commit 78c72746f56b ("vmalloc: show lazy-purged vma info in
# vmallocinfo") (in v4.13), there are lines of such areas.
PLAIN_LABELS: Mapping[State, str] = {
    State.BUSY: "vm_map_ram",
    State.LAZY: "unpurged vm_area",
    State.PURGING: "purging",
    State.POOL: "pool",
    State.FREE: "free",
}
"""What is said of an area that has no vm_struct. The kernel lists busy and lazy ones; the
words for the others are our own."""

_LABELS = tuple((f" {label}", flag) for label, flag in VM_LABELS.items())

HIDDEN = {8: "0x(ptrval)-0x(ptrval)", 16: "0x(____ptrval____)-0x(____ptrval____)"}
"""Addresses before there is a key to hash them with, by how wide they are."""
HEAD = "|".join(
    rf"0x[0-9a-f]{{{wide}}}-0x[0-9a-f]{{{wide}}}|{re.escape(hidden)}"
    for wide, hidden in HIDDEN.items()
)
"""Regular expression of what a line begins with."""

CALLER = (
    r"[A-Za-z_.$][!-*,-~]*\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[!-Z^-~]+\])?"
    r"|0x[0-9a-f]{16}|0x[0-9a-f]{8}|<[!-;=?-~]+>"
)
"""Regular expression of %pS: a symbol, or the bare address of code that is gone; in <>
it is what a debugger says instead."""
_KNOWN = (*VM_LABELS, VPAGES)
_WORDS = "|".join(_KNOWN)
_WORD = rf"(?!(?:{_WORDS})\b|vm_)[a-z][a-z-]{{2,15}}"
_TAIL = re.compile(
    r" +(?P<size>[0-9]{1,20})"
    rf"(?: (?P<plain>{PLAIN_LABELS[State.BUSY]}|{PLAIN_LABELS[State.LAZY]})|"
    rf"(?: (?P<caller>{CALLER}))?"
    r"(?: pages=(?P<pages>[1-9][0-9]{0,18}))?"
    r"(?: phys=(?P<phys>0x(?:[0-9a-f]{16}|[0-9a-f]{8})|[1-9a-f][0-9a-f]{0,15}))?"
    rf"(?P<labels>{''.join(f'(?: {label})?' for label in _KNOWN)}"
    rf"(?: (?P<word>{_WORD}))?)(?P<numa>(?: N[0-9]{{1,4}}=[1-9][0-9]{{0,18}})*)"
    # A vendor has one of them.
    rf"(?(word)|(?: (?P<last>{_WORD}))?))"
)
_PART = re.compile(rf"{_TAIL.pattern}(?![^ ])")
_NUMA = re.compile(r" N(\d+)=(\d+)")


@dataclass(frozen=True)
class LineTail:
    """What a line says behind the addresses."""

    size: int
    plain: Optional[str] = None
    """What an area without a vm_struct is, of :data:`PLAIN_LABELS`."""
    caller: Optional[str] = None
    pages: int = 0
    phys: str = ""
    """As it is printed, with or without 0x."""
    labels: Tuple[str, ...] = ()
    """Of :data:`~drgn_vmap.model.areas.VM_LABELS`, ``vpages``, and a vendor's."""
    numa: Tuple[Tuple[int, int], ...] = ()
    last: str = ""
    """A vendor's label that stands at the very end."""

    def text(self) -> str:
        """Return it as the kernel prints it."""
        words = (self.plain,) if self.plain else self.labels
        return line_tail(
            self.size,
            f" {self.caller}" if self.caller else "",
            self.pages,
            self.phys,
            "".join([f" {word}" for word in words]),
            self.numa,
        ) + (f" {self.last}" if self.last else "")


def line_tail(
    size: int,
    caller: str,
    pages: int,
    phys: str,
    labels: str,
    numa: Iterable[Tuple[int, int]],
) -> str:
    """
    Return what follows the addresses in a line.

    :param caller: Text of %pS behind a blank, or nothing.
    :param phys: As it is to stand there, or nothing.
    :param labels: Each behind a blank.
    :param numa: Nodes and how many pages are there; those that have none are left out.
    """
    held = f" pages={pages}" if pages else ""
    at = f" phys={phys}" if phys else ""
    counts = "".join([f" N{node}={count}" for node, count in numa if count])
    return f" {size:7d}{caller}{held}{at}{labels}{counts}"


def flag_labels(flags: int, sparse_label: bool = True) -> str:
    """
    Return the labels of VM_* flags, each behind a blank.

    :param sparse_label: Whether this kernel has a label for VM_SPARSE.
    """
    return "".join(
        label
        for label, name in _LABELS
        if flags & VM_FLAGS[name] and (sparse_label or name != "VM_SPARSE")
    )


def parse_tail(text: str) -> Optional[LineTail]:
    """
    Return what a line says behind the addresses, or None if it is none.

    The size may be padded in any way.
    """
    found = _TAIL.fullmatch(text)
    if not found:
        return None
    size, plain, caller, pages, phys, labels, _, numa, last = found.groups()
    counts = _NUMA.findall(numa) if numa else ()
    return LineTail(
        size=int(size),
        plain=plain,
        caller=caller,
        pages=int(pages) if pages else 0,
        phys=phys or "",
        labels=tuple(labels.split()) if labels else (),
        numa=tuple([(int(node), int(count)) for node, count in counts]),
        last=last or "",
    )


def sensible_part(text: str) -> int:
    """Return how many characters of what is no :func:`parse_tail` are the start of one."""
    found = _PART.match(text)
    return found.end() if found else 0
