# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a whole line of /proc/vmallocinfo obeys
--------------------------------------------

A line that lost a character may still be of the right form. What is known of areas,
and what the other lines of the text have in common, tells it from a whole one.
"""

import re
from dataclasses import dataclass, field
from itertools import chain
from typing import Dict, Iterable, List, Optional, Set, Tuple

from .._numpy import Array, np
from ..model.vmallocinfo import VPAGES, LineTail
from .text_lines import KNOWN_LABELS, Lines, vendor_word

__all__ = (
    "SMALLEST_PAGE",
    "Checked",
    "check_lines",
    "page_size_of",
    "tail_fault",
    "tail_faults",
)

SMALLEST_PAGE = 4096
"""Bytes: no kernel has smaller pages."""
_LARGEST_PAGE = 1 << 18
_MAX_NODES = 1024
_LIMIT = 1 << 63
_PHYS_BITS = 52
"""Of a physical address, at most."""
_COUNTED = 10
"""Lines from which the nodes of a machine are told, and that areas have guard pages."""

_SYMBOL = re.compile(r"\+0x([0-9a-f]+)/0x([0-9a-f]+)")
_KNOWN = frozenset(KNOWN_LABELS)
_VMALLOC, _VPAGES = (1 << KNOWN_LABELS.index(one) for one in ("vmalloc", VPAGES))
_WORDS = _KNOWN | {"pages=", "phys="}
# Linux labels all areas but these, which had no VM_* flag before the vm_map_ram series:
# powerpc's I/O space of PCI host bridges. Debuggers do not know all labels.
_UNLABELLED = re.compile(r"(?:ioremap_phb|pcibios_\w+)\+|<")


def tail_fault(tail: LineTail) -> Optional[str]:
    """Return what speaks against what a line says behind its addresses, or None."""
    if not 0 < tail.size < _LIMIT or tail.size % SMALLEST_PAGE:
        return f"no area has {tail.size} bytes"
    if tail.plain is not None:
        return "nothing can follow" if tail.last else None
    if tail.pages * SMALLEST_PAGE > tail.size:
        return f"{tail.pages} pages do not fit in {tail.size} bytes"
    words = (*tail.labels, tail.last) if tail.last else tail.labels
    if not words and not _UNLABELLED.match(tail.caller or ""):
        return "it has no label such as vmalloc, so it is cut short"
    if _is_beyond(tail.caller or ""):
        return f"{tail.caller} is beyond the symbol's end"
    nodes = [node for node, _ in tail.numa]
    if nodes != sorted(set(nodes)) or (nodes and nodes[-1] >= _MAX_NODES):
        return "its nodes are out of order, or more than Linux knows"
    if int(tail.phys or "0", 16) >> _PHYS_BITS:
        return f"no machine has phys={tail.phys}"
    if nodes and not tail.pages:
        return "it counts pages by node but has none"
    word = vendor_word(tail)
    if word and (_resembles(word) or word.startswith(tuple(_KNOWN))):
        return f"{word!r} is no label, but nearly one"
    if word and not (tail.caller or tail.pages or tail.phys):
        return f"it ends with {word!r} and tells nothing else, so it is cut short"
    return None


@dataclass
class Checked:
    """What the lines of a text tell of one another."""

    pointers: str
    """What addresses are: ``raw``, ``hashed`` or ``none``."""
    page_size: Optional[int]
    """Of the kernel; None if nothing tells."""
    faults: Dict[int, str] = field(default_factory=dict)
    """Why a row cannot be taken as a whole line."""
    doubtful: List[int] = field(default_factory=list)
    """Rows whose pages by node do not add up: the kernel counts them while they
    change, readers of older ones share the counters, and before it has set an area of
    vmalloc() up it counts none."""


def check_lines(lines: Lines, other_blanks: Array) -> Checked:
    """
    Find lines that do not go with the others.

    :param other_blanks: Which lines had other blanks than the kernel prints.
    """
    pointers, matches = _pointers(lines)
    by_node = lines.by_node()
    page_size = page_size_of(lines)
    found = Checked(pointers, page_size)

    def refuse(mask: Array, why: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            found.faults.setdefault(row, why)

    found.faults.update(tail_faults(lines))
    shown = (lines.start | lines.end) != 0
    narrow = lines.digits == 8
    odd = narrow if narrow.sum() * 2 < len(lines) else ~narrow
    refuse(odd, "its addresses are not as wide as the others'")
    aligned = (lines.start | lines.end) % np.uint64(SMALLEST_PAGE) == 0
    real = aligned | (lines.start >> np.uint64(32) != 0) | (pointers == "raw")
    why = "its size is not what lies between its addresses"
    refuse(shown & real & ~matches, why)
    if pointers == "none":
        refuse(shown, "its addresses are shown, those of others are not")
    elif pointers == "raw":
        refuse(~shown, "its addresses are hidden, others are not")
    if pointers != "raw":
        # Without addresses, a digit that is gone from a size shows in its padding.
        most = np.count_nonzero(other_blanks) * 2 > len(lines)
        refuse(other_blanks & (not most), "a blank more or less, and nothing tells why")
    for why, mask in _unlike_others(lines, by_node, page_size):
        refuse(mask, why)
    whole = np.ones(len(lines), bool)
    whole[list(found.faults)] = False
    off = (lines.counts > 0) & (by_node != lines.pages)
    off |= _uncounted(lines) & _may_be_in_the_making(lines)
    found.doubtful = np.flatnonzero(whole & off).tolist()
    return found


def tail_faults(lines: Lines) -> Dict[int, str]:
    """Return what :func:`tail_fault` has to say of rows."""
    rows = np.flatnonzero(_may_be_faulty(lines)).tolist()
    found = ((row, tail_fault(lines.tail(row))) for row in rows)
    return {row: why for row, why in found if why is not None}


def _may_be_faulty(lines: Lines) -> Array:
    """Return which lines :func:`tail_fault` may find something to say of."""
    pages = lines.pages * np.uint64(SMALLEST_PAGE)
    found = (lines.size == 0) | (lines.size % np.uint64(SMALLEST_PAGE) != 0)
    found |= (lines.size >= np.uint64(_LIMIT)) | (lines.phys >> np.uint64(32) != 0)
    has_vm = lines.plain == 0
    found |= has_vm & ((pages > lines.size) | (lines.labels == 0) | (lines.word > 0))
    found |= lines.pages >= np.uint64(1 << 40)
    found |= (lines.counts > 0) & (lines.pages == 0)
    callers = [_is_beyond(caller) for caller in lines.callers.texts]
    found |= np.array(callers, bool)[lines.caller]
    row = lines.line_of_count()
    wrong = lines.node >= _MAX_NODES
    wrong[1:] |= (row[1:] == row[:-1]) & (lines.node[1:] <= lines.node[:-1])
    found[row[wrong]] = True
    return found


def _is_beyond(caller: str) -> bool:
    """Whether an offset is not within the symbol's size."""
    symbol = _SYMBOL.search(caller)
    return symbol is not None and int(symbol[1], 16) >= int(symbol[2], 16)


def _pointers(lines: Lines) -> Tuple[str, Array]:
    """Tell what addresses are, and which are as far apart as the line says."""
    start, end = lines.start, lines.end
    shown = (start | end) != 0
    matches = shown & (end > start) & (end - start == lines.size)
    if np.count_nonzero(shown) * 2 < len(lines):
        return "none", matches
    raw = np.count_nonzero(matches) * 4 >= np.count_nonzero(shown) * 3
    return "raw" if raw else "hashed", matches


def page_size_of(lines: Lines) -> Optional[int]:
    """Tell it from areas of vmalloc(): their size is that of the pages and a guard's."""
    rows = np.flatnonzero((lines.labels & _VMALLOC != 0) & (lines.pages > 0))
    pages, size = lines.pages[rows] + np.uint64(1), lines.size[rows]
    each = size // pages
    exact = (each * pages == size) & (each >= np.uint64(SMALLEST_PAGE))
    exact &= (each & (each - np.uint64(1)) == 0) & (each <= np.uint64(_LARGEST_PAGE))
    sizes, counts = np.unique(each[exact], return_counts=True)
    if not len(sizes) or counts.max() * 2 < len(rows):
        return None
    return int(sizes[np.argmax(counts)])


def _unlike_others(
    lines: Lines, by_node: Array, page_size: Optional[int]
) -> Iterable[Tuple[str, Array]]:
    """Yield what is wrong with lines that are not like most others."""
    form = lines.form
    forms, counts = np.unique(form[form > 0], return_counts=True)
    if len(forms) > 1:
        usual = max(zip(counts.tolist(), forms.tolist()))[1]
        yield "its phys= is not as the others'", (form > 0) & (form != usual)
    unaligned = lines.phys % np.uint64(SMALLEST_PAGE) != 0
    if np.count_nonzero(unaligned) * 2 < np.count_nonzero(form):
        yield "its phys= is no page's, as the others' are", unaligned
    pages, counted = lines.pages, lines.counts > 0
    if page_size is None:
        off = counted & (by_node != pages)
        yield "its pages are not the sum of its N counts", off
    for node, mask in _odd_nodes(lines):
        yield f"no other line has pages on node {node}, or on one next to it", mask
    lost = _uncounted(lines) & ~_may_be_in_the_making(lines)
    yield "it has no N counts, as the others have, so it is cut short", lost
    if page_size is not None:
        held = lines.size // np.uint64(page_size)
        odd = (pages > 0) & (pages != held) & (pages + np.uint64(1) != held)
        # Hardly any area is without a guard page (VM_NO_GUARD): one alone is none such.
        unguarded = (pages > 0) & (pages == held)
        guarded = np.count_nonzero((pages > 0) & (pages + np.uint64(1) == held))
        odd |= unguarded & (unguarded.sum() == 1) & (guarded >= _COUNTED)
        odd &= ~(counted & (by_node == pages))
        yield f"its pages do not go with its size, at {page_size} bytes a page", odd
        # The array of pages lies in vmalloc space if it does not fit in a page.
        word = lines.digits[:1].astype(np.uint64) // np.uint64(2)
        long = (lines.labels & _VMALLOC != 0) & (pages * word > np.uint64(page_size))
        vpages = lines.labels & _VPAGES != 0
        if np.count_nonzero(vpages & long) * 2 > np.count_nonzero(long):
            yield "it lost the vpages that others have", long & ~vpages
    for number, why in _odd_words(lines):
        yield why, lines.word == number


def _uncounted(lines: Lines) -> Array:
    """Return which lines have pages and no N counts, as others have."""
    lost = (lines.pages > 0) & (lines.counts == 0)
    return lost if lines.counts.any() else np.zeros(len(lines), bool)


def _may_be_in_the_making(lines: Lines) -> Array:
    """Return which lines may be of areas that vmalloc() has not set up yet."""
    return lines.labels & _VMALLOC != 0


def _odd_nodes(lines: Lines) -> Iterable[Tuple[int, Array]]:
    """Yield nodes that but one of many lines has, beyond those of the others."""
    if len(lines.node) < _COUNTED:
        return
    times = np.bincount(lines.node)
    often = np.flatnonzero(times > 1)
    for node in np.flatnonzero(times == 1).tolist():
        if node > often.max(initial=-1) + 1:
            mask = np.zeros(len(lines), bool)
            mask[lines.line_of_count()[lines.node == node]] = True
            yield node, mask


def _odd_words(lines: Lines) -> Iterable[Tuple[int, str]]:
    words = lines.words.texts
    counts = np.bincount(lines.word, minlength=len(words)).tolist()
    most: Dict[str, int] = {}
    for word, times in zip(words, counts):
        for form in _forms_of_whole(word):
            most[form] = max(times, most.get(form, 0))
    for number, word in enumerate(words):
        likes = max(most.get(form, 0) for form in _forms_of_part(word))
        if word and likes > counts[number] > 0:
            yield number, f"{word!r} is no label, but nearly one of others"


def _resembles(word: str) -> bool:
    """Return whether a word is the beginning of a known one, or a character off it."""
    return not _KNOWN_FORMS.isdisjoint(_forms_of_part(word))


def _forms_of_part(word: str) -> Set[str]:
    """Return forms of which a word shares one with what it is the beginning of, or nearly."""
    return {f"{word}*", *_forms(word)}


def _forms_of_whole(word: str) -> Set[str]:
    return {f"{word[:end]}*" for end in range(1, len(word) + 1)} | _forms(word)


def _forms(word: str) -> Set[str]:
    """Return forms of which two words share one if they are a character off one another."""
    more = {f"{word[:at]}?{word[at:]}" for at in range(len(word) + 1)}
    return more | {f"{word[:at]}?{word[at + 1:]}" for at in range(len(word))}


_KNOWN_FORMS = frozenset(chain.from_iterable(map(_forms_of_whole, _WORDS)))
