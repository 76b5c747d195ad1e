#!/usr/bin/env drgn
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Print the table of `makedumpfile --mem-usage /proc/kcore`, of vmcores as well:

    drgn -c /proc/kcore contrib/mem_usage.py
    drgn -c vmcore contrib/mem_usage.py
    drgn --qemu SOCKET contrib/mem_usage.py

Each page of RAM is in one class; those that say "yes" are what `makedumpfile -d 31` leaves
out of a dump. VMALLOC says how many of a class vmalloc areas map: those that are excludable
are missing when somebody looks at the areas in such a dump.

Classes, names and their order of precedence are makedumpfile's. So is what RAM is: what
/proc/iomem calls System RAM, less what is reserved for a crash kernel. Two differences are
meant: the kernel's image is counted once, where makedumpfile counts it twice as /proc/kcore
has it twice, and no crashkernel need be reserved. Pages that are offline, as a balloon's
are, or poisoned have no class in either table; here a line counts them.

It needs no debug info where the project needs none, struct pages in one array (vmemmap),
memory that does not grow with the target's, and time that grows with it: each struct page
is read, and each page that is left in the end, to see whether it is all zeros.

Tried on Debian's 5.10, 6.1, 6.12 and 7.3, and on vmcores of arm64, ppc64le and s390x;
tests/lab/test_mem_usage.py has it agree with makedumpfile to the page. Needs what the
project needs, nothing else.
"""

import argparse
import sys
from enum import IntEnum
from pathlib import Path
from typing import Iterator, List, NamedTuple, NoReturn, Optional, Tuple

from drgn import Program

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drgn_vmap._numpy import Array, Record, U64Array, np  # noqa: E402
from drgn_vmap.commands import EXIT_FOUND, EXIT_OK, as_script, guarded  # noqa: E402
from drgn_vmap.commands.progress import Progress  # noqa: E402
from drgn_vmap.commands.streams import tell  # noqa: E402
from drgn_vmap.errors import Fault, TargetError, UsageError  # noqa: E402
from drgn_vmap.kernel.target import Target  # noqa: E402
from drgn_vmap.kernel.types.structs import (  # noqa: E402
    array_length,
    has_member,
    member_offset,
    record_dtype,
    type_size,
)
from drgn_vmap.kernel.vmalloc.mappings import vmalloc_frames  # noqa: E402
from drgn_vmap.kernel.vmalloc.snapshot import take_snapshot  # noqa: E402
from drgn_vmap.model.areas import ProblemKind  # noqa: E402

NAME = "mem_usage.py"
ADVICE = "take a vmcore that is neither damaged nor cut short"
FRAMES_AT_ONCE = 1 << 16
"""No free block is larger, and each is aligned to its own size."""
BYTES_AT_ONCE = 8 << 20
MAX_RESOURCES = 1 << 16
MAX_COMPOUND = 1 << 24
"""More pages than a compound page has."""

RESOURCE = {name: name for name in ("start", "end", "flags", "sibling", "child")}
SYSTEM_RAM = 0x200 | 0x01000000 | 0x80000000
"""IORESOURCE_MEM, _SYSRAM and _BUSY, macros of include/linux/ioport.h."""
MAPPING_ANON = 1
"""PAGE_MAPPING_ANON, later FOLIO_MAPPING_ANON, of include/linux/page-flags.h."""


class Class(IntEnum):
    """What a page is; the first six are the table's lines."""

    ZERO = 0
    NON_PRI_CACHE = 1
    PRI_CACHE = 2
    USER = 3
    FREE = 4
    KERN_DATA = 5
    LEFT_OUT = 6
    """Offline or poisoned."""
    UNKNOWN = 7
    """Its struct page cannot be read."""


DESCRIPTIONS = {
    Class.ZERO: "all zeros, and kernel data otherwise",
    Class.NON_PRI_CACHE: "page cache, without PG_private",
    Class.PRI_CACHE: "page cache, with PG_private",
    Class.USER: "anonymous and hugetlbfs memory of processes",
    Class.FREE: "free, in the buddy allocator",
    Class.KERN_DATA: "all else, which each dump keeps",
}


class Usage(NamedTuple):
    """Pages by class, and what could not be had."""

    page_size: int
    pages: Array
    by_vmalloc: Optional[Array]
    """Those that vmalloc areas map; None if the page table cannot be read."""
    problems: List[str]


def main(prog: Optional[Program]) -> NoReturn:
    parser = argparse.ArgumentParser(
        prog=NAME,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    as_script(lambda: guarded(NAME, lambda: run(prog)))


def run(prog: Optional[Program]) -> int:
    """Print the table, and return the exit status."""
    if prog is None:
        raise UsageError("there is no kernel to look at: start it with drgn -c")
    with Target(prog) as target:
        usage = count(target)
    print(table(usage))
    for problem in usage.problems:
        tell(NAME, problem)
    return EXIT_FOUND if usage.problems else EXIT_OK


def table(usage: Usage) -> str:
    """Return the text of the table."""
    line = "{:<14} {:<12} {:<11} {:<9} {}"
    lines = [line.format("TYPE", "PAGES", "EXCLUDABLE", "VMALLOC", "DESCRIPTION")]
    lines.append("-" * 79)
    for one, description in DESCRIPTIONS.items():
        excludable = "no" if one == Class.KERN_DATA else "yes"
        mapped = "unknown" if usage.by_vmalloc is None else usage.by_vmalloc[one]
        words = (one.name, usage.pages[one], excludable, mapped, description)
        lines.append(line.format(*words))
    total = int(usage.pages.sum())
    lines += ["", f"page size:             {usage.page_size}"]
    lines.append(f"Total pages on system: {total}")
    lines.append(f"Total size on system:  {total * usage.page_size} Byte")
    lines += notes(usage)
    return "\n".join(lines)


def notes(usage: Usage) -> Iterator[str]:
    """Yield what the table has no line for."""
    if usage.pages[Class.LEFT_OUT]:
        yield f"Offline or poisoned:   {usage.pages[Class.LEFT_OUT]} pages"
    if usage.by_vmalloc is not None:
        mapped = int(usage.by_vmalloc.sum())
        kept = int(usage.by_vmalloc[Class.KERN_DATA])
        yield f"Mapped by vmalloc:     {mapped} pages, {mapped - kept} of them excludable"


def count(target: Target) -> Usage:
    """
    Look at each page of RAM.

    :raises VmapError: if nothing tells where they are.
    """
    pages = Pages(target)
    ranges, problems = ram_ranges(target, pages)
    mapped, not_known = mapped_frames(target)
    whole = sum(end - start for start, end in ranges)
    totals, by_vmalloc = np.zeros((2, len(Class)), np.int64)
    with Progress(NAME, "pages") as progress:
        for first, end in pieces(ranges):
            classes = pages.classify(first, end)
            pages.find_zeros(first, classes)
            totals += np.bincount(classes, minlength=len(Class))
            at = indexes(mapped, first, end)
            by_vmalloc += np.bincount(classes[at], minlength=len(Class))
            progress.update(int(totals.sum()), whole)
    problems += not_known + pages.problems(totals)
    known = None if mapped is None else by_vmalloc
    return Usage(pages.page_size, totals, known, problems)


def indexes(frames: Optional[U64Array], first: int, end: int) -> Array:
    """Return where in a range of frames some ascending ones are."""
    if frames is None:
        return np.empty(0, np.intp)
    begin, stop = np.searchsorted(frames, np.array([first, end], np.uint64))
    return (frames[begin:stop] - np.uint64(first)).astype(np.intp)


def pieces(ranges: List[Tuple[int, int]]) -> Iterator[Tuple[int, int]]:
    """Cut ranges of frames where no free block can lie across."""
    for start, end in ranges:
        while start < end:
            stop = min(end, (start // FRAMES_AT_ONCE + 1) * FRAMES_AT_ONCE)
            yield start, stop
            start = stop


def mapped_frames(target: Target) -> Tuple[Optional[U64Array], List[str]]:
    """Return the frames that vmalloc areas map, ascending, and what is not known of it."""
    snapshot = take_snapshot(target)
    frames, problems = vmalloc_frames(target, snapshot)
    texts = [
        f"{problem.what}: {problem.where}: {problem.detail}"
        for problem in (*snapshot.problems, *problems)
        if problem.what != ProblemKind.RACING
    ]
    return frames, texts


def ram_ranges(
    target: Target, pages: "Pages"
) -> Tuple[List[Tuple[int, int]], List[str]]:
    """
    Return the frames of RAM as /proc/kcore has them, less those of a crash kernel.

    :return: Ascending ranges that do not overlap, and what may be missing.
    :raises TargetError: if there are none.
    """
    found, problems = system_ram(target)
    ranges: List[Tuple[int, int]] = []
    done = 0
    for start, end in sorted(found):
        start, end = -(-start // pages.page_size), end // pages.page_size
        if end > pages.count:
            problems.append(
                f"RAM has frames up to {end:#x}, nodes up to {pages.count:#x}"
            )
        start, end = max(start, done), min(end, pages.count)
        if start < end:
            ranges.append((start, end))
            done = end
    for name in ("crashk_res", "crashk_low_res"):
        ranges = without(ranges, *crash_kernel(target, name, pages.page_size))
    if not ranges:
        raise TargetError(f"iomem_resource has no System RAM: {ADVICE}")
    return ranges, problems


def system_ram(target: Target) -> Tuple[List[Tuple[int, int]], List[str]]:
    """Return where System RAM begins and ends, in any order, and what cannot be read."""
    found, problems = [], []
    resource_dtype = record_dtype(target.prog, "struct resource", RESOURCE)
    root = target.values.number(lambda prog: prog["iomem_resource"].child)
    waiting, seen = [target.values.need("iomem_resource", root)], set()
    while waiting:
        address = waiting.pop()
        if not address or address in seen:
            continue
        seen.add(address)
        if len(seen) > MAX_RESOURCES:
            raise TargetError(f"iomem_resource has no end: {ADVICE}")
        try:
            resource = target.memory.record(address, resource_dtype)
        except Fault as e:
            problems.append(f"RAM may be missing: resource {address:#x}: {e.why}")
            continue
        waiting.append(int(resource["sibling"]))
        if int(resource["flags"]) & SYSTEM_RAM == SYSTEM_RAM:
            found.append((int(resource["start"]), int(resource["end"]) + 1))
        else:
            waiting.append(int(resource["child"]))
    return found, problems


def crash_kernel(target: Target, name: str, page_size: int) -> Tuple[int, int]:
    """Return the frames that are reserved for a crash kernel; none is an empty range."""
    start, end = (
        target.values.number(lambda prog: prog[name].member_(member))
        for member in ("start", "end")
    )
    if start is None or end is None:
        return 0, 0  # Built without CONFIG_CRASH_CORE.
    return (start // page_size, (end + 1) // page_size) if end else (0, 0)


def without(
    ranges: List[Tuple[int, int]], start: int, end: int
) -> List[Tuple[int, int]]:
    """Cut a range out of others."""
    cut = [part for a, b in ranges for part in ((a, min(b, start)), (max(a, end), b))]
    return [(a, b) for a, b in cut if a < b] if start < end else ranges


class Pages:
    """The struct pages of a kernel, and what they say."""

    def __init__(self, target: Target) -> None:
        self.page_size = target.page_size
        self._unreadable = 0
        self._damaged = 0
        self._is_live = target.live
        self._frames = target.frames
        self.count = self._frames.count()
        """Of frames, with those between that are no RAM."""
        self._structs = target.memory
        self._contents = target.physical
        self._orders = array_length(target.prog, "struct zone", "free_area")
        self._kinds = Kinds(target)
        self._record = page_record(target)

    def classify(self, first: int, end: int) -> Array:
        """Return the class of each frame; ZERO is none yet."""
        frames = np.arange(first, end, dtype=np.uint64)
        records, ok = self._structs.records(self._frames.pages(frames), self._record)
        classes = self._kinds.of(records)
        self._spread_free(records, classes)
        tails = np.flatnonzero(self._kinds.is_tail(records))
        heads = self._kinds.heads(self._frames.pages(frames[tails]), records[tails])
        classes[tails] = self._of_heads(frames[tails], heads, first, classes)
        self._structs.forget()
        classes[~ok] = Class.UNKNOWN
        return classes

    def problems(self, totals: Array) -> List[str]:
        """Return what was wrong, by what the pages add up to."""
        found = []
        if totals[Class.UNKNOWN]:
            lost = f"the struct pages of {totals[Class.UNKNOWN]} pages cannot be read"
            found.append(f"{lost}: they have no class")
        if self._unreadable:
            lost = f"{self._unreadable} pages cannot be read"
            found.append(f"{lost}: they count as KERN_DATA, and may be ZERO")
        # Those of a running kernel change while they are read.
        if self._damaged and not self._is_live:
            damaged = f"{self._damaged} struct pages make no sense"
            found.append(f"{damaged}: they count as KERN_DATA")
        return found

    def _spread_free(self, records: Array, classes: Array) -> None:
        """Let the pages of a free block be free: only the first one says so."""
        firsts = np.flatnonzero(classes == Class.FREE)
        orders = records["private"][firsts]
        sane = orders < self._orders
        self._damaged += int((~sane).sum())
        classes[firsts[~sane]] = Class.KERN_DATA
        firsts, counts = firsts[sane], np.left_shift(1, orders[sane].astype(np.int64))
        steps = np.zeros(len(classes) + 1, np.int64)
        np.add.at(steps, firsts, 1)
        np.add.at(steps, np.minimum(firsts + counts, len(classes)), -1)
        classes[np.cumsum(steps)[:-1] > 0] = Class.FREE

    def _of_heads(
        self, frames: U64Array, heads: U64Array, first: int, classes: Array
    ) -> Array:
        """
        Return the classes of tail pages, which are those of their heads.

        :param heads: Addresses of the heads' struct pages.
        :param classes: Of the frames from ``first`` on.
        """
        at = self._frames.of(heads)
        sane = (self._frames.pages(at) == heads) & (at < frames)
        sane &= frames - at < np.uint64(MAX_COMPOUND)
        self._damaged += int((~sane).sum())
        found = np.full(len(frames), Class.KERN_DATA, np.uint8)
        near = np.flatnonzero(sane & (at >= np.uint64(first)))
        found[near] = classes[(at[near] - np.uint64(first)).astype(np.intp)]
        far = np.flatnonzero(sane & (at < np.uint64(first)))
        outside, inverse = np.unique(at[far], return_inverse=True)
        # What follows a head may tell of what kind it is.
        both = np.stack((outside, outside + np.uint64(1)), axis=1).reshape(-1)
        records, _ = self._structs.records(self._frames.pages(both), self._record)
        found[far] = self._kinds.of(records)[::2][inverse]
        return found

    def find_zeros(self, first: int, classes: Array) -> None:
        """Look at the pages of KERN_DATA; those of zeros become ZERO."""
        left = np.flatnonzero(classes == Class.KERN_DATA)
        page = np.dtype(f"V{self.page_size}")
        at_once = max(1, BYTES_AT_ONCE // self.page_size)
        for at in range(0, len(left), at_once):
            rows = left[at : at + at_once]
            addresses = (rows.astype(np.uint64) + np.uint64(first)) * np.uint64(
                self.page_size
            )
            contents, ok = self._contents.records(addresses, page)
            self._contents.forget()
            words = contents.view(np.uint64).reshape(len(rows), -1)
            classes[rows[ok & ~words.any(axis=1)]] = Class.ZERO
            self._unreadable += int((~ok).sum())


class Kinds:
    """
    How this kernel marks what a page is used for.

    The values of flags and types are those that VMCOREINFO tells to makedumpfile
    (Documentation/admin-guide/kdump/vmcoreinfo.rst).
    """

    def __init__(self, target: Target) -> None:
        self._numbers = target.vmcoreinfo.numbers
        for needed in (
            "PG_lru",
            "PG_private",
            "PG_swapcache",
            "PAGE_BUDDY_MAPCOUNT_VALUE",
        ):
            if needed not in self._numbers:
                raise TargetError(f"VMCOREINFO has no {needed}, which this needs")
        size = type_size(target.prog, "struct page") or 0
        # Since commit 8c846c879e22 ("mm: rework compound_head() for power-of-2
        # sizeof(struct page)") (in v7.1), it may be a mask that leads to the head; then
        # zones have the struct pages that tails of hugetlbfs share.
        shared = has_member(target.prog, "struct zone", "vmemmap_tails")
        self._is_mask = shared and size & (size - 1) == 0

    def of(self, records: Array) -> Array:
        """
        Return the class of each page that is no tail.

        :param records: Of adjacent pages.
        """
        cache = self._flag(records, "PG_lru")
        cache |= self._flag(records, "PG_swapbacked") & self._flag(
            records, "PG_swapcache"
        )
        # Since commit 130d4df57390 ("mm/sl[au]b: rearrange struct slab fields to allow
        # larger rcu_head") (in v6.2), slabs have numbers where others have the mapping.
        slab = self._is_slab(records)
        anon = (records["mapping"] & np.uint64(MAPPING_ANON) != 0) & ~slab
        private = self._flag(records, "PG_private")
        rules = (
            (self._is_type(records, "BUDDY") & ~slab, Class.FREE),
            (cache & ~anon & ~private, Class.NON_PRI_CACHE),
            (cache & ~anon, Class.PRI_CACHE),
            (anon | self._is_hugetlb(records), Class.USER),
            (self._flag(records, "PG_hwpoison"), Class.LEFT_OUT),
            (self._is_type(records, "OFFLINE") & ~slab, Class.LEFT_OUT),
        )
        conditions, classes = zip(*rules)
        return np.select(conditions, classes, Class.KERN_DATA).astype(np.uint8)

    def is_tail(self, records: Array) -> Array:
        """Return which pages are tails of compound pages."""
        return records["compound"] & np.uint64(1) != 0

    def heads(self, tails: U64Array, records: Array) -> U64Array:
        """Return the head of each tail: the address of its struct page."""
        pointers = records["compound"].astype(np.uint64)
        return tails & pointers if self._is_mask else pointers - np.uint64(1)

    def _flag(self, records: Array, name: str) -> Array:
        """Return which pages have a flag; none has one that this kernel lacks."""
        bit = self._numbers.get(name)
        mask = 0 if bit is None else 1 << bit
        return records["flags"] & np.uint64(mask) != 0

    def _is_type(self, records: Array, name: str) -> Array:
        """Return which pages are of a type, which stands in place of _mapcount."""
        number = self._numbers.get(f"PAGE_{name}_MAPCOUNT_VALUE")
        if number is None:
            return np.zeros(len(records), bool)
        return records["type"].astype(np.int64) & 0xFFFFFFFF == number & 0xFFFFFFFF

    def _is_slab(self, records: Array) -> Array:
        # Since commit 46df8e73a4a3 ("mm: free up PG_slab") (in v6.10), it is a type.
        return self._is_type(records, "SLAB") | self._flag(records, "PG_slab")

    def _is_hugetlb(self, records: Array) -> Array:
        """Return which pages are heads of hugetlbfs."""
        if not len(records):
            return np.zeros(0, bool)
        # Since commit d99e3140a4d3 ("mm: turn folio_test_hugetlb into a PageType") (in
        # v6.9), it is a type.
        if "PAGE_HUGETLB_MAPCOUNT_VALUE" in self._numbers:
            return self._is_type(records, "HUGETLB")
        is_head = (
            records["flags"] & np.uint64(self._numbers.get("PG_head_mask", 0)) != 0
        )
        # The last one is no head: heads are aligned.
        follows = records[np.minimum(np.arange(1, len(records) + 1), len(records) - 1)]
        # Since commit 9c5ccf2db04b ("mm: remove HUGETLB_PAGE_DTOR") (in v6.6), it is a
        # flag of the page behind the head.
        if "PG_hugetlb" in self._numbers:
            return is_head & self._flag(follows, "PG_hugetlb")
        dtor = self._numbers.get("HUGETLB_PAGE_DTOR")
        if dtor is None or "dtor" not in (records.dtype.names or ()):
            return np.zeros(len(records), bool)
        return is_head & (follows["dtor"] == dtor)


def page_record(target: Target) -> Record:
    """Return the dtype of a struct page, with what is needed of it."""
    # Since commit d50569612c29 ("mm: rename the 'compound_head' field in the 'struct
    # page' to 'compound_info'") (in v7.1).
    renamed = has_member(target.prog, "struct page", "compound_info")
    members = {name: name for name in ("flags", "mapping", "private")}
    members["type"] = "_mapcount"
    members["compound"] = "compound_info" if renamed else "compound_head"
    # Of the page behind a head: what the compound page is.
    members["dtor"] = "compound_dtor"
    record = record_dtype(target.prog, "struct page", members)
    # Since commit 1c5509be58f6 ("mm: remove 'First tail page' members from struct page")
    # (in v6.3), struct folio names it, which begins with the head.
    dtor = member_offset(target.prog, "struct folio", "_folio_dtor")
    if dtor is None:
        return record
    fields = dict(record.fields or {})
    fields["dtor"] = (np.dtype(np.uint8), dtor - record.itemsize)
    formats, offsets = zip(*(field[:2] for field in fields.values()))
    names, size = list(fields), record.itemsize
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
    )


if __name__ == "__main__":
    main(globals().get("prog"))
