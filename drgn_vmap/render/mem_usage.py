# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What memory is used for
-----------------------

makedumpfile's table of memory with a column for vmalloc, for people and as JSON.
"""

from typing import Any, Dict, Iterator

from ..model.mem_usage import MemUsage, PageClass

__all__ = ("mem_usage_json", "mem_usage_text")

_DESCRIPTIONS = {
    PageClass.ZERO: "all zeros, and kernel data otherwise",
    PageClass.NON_PRI_CACHE: "page cache, without PG_private",
    PageClass.PRI_CACHE: "page cache, with PG_private",
    PageClass.USER: "anonymous and hugetlbfs memory of processes",
    PageClass.FREE: "free, in the buddy allocator",
    PageClass.KERN_DATA: "all else, which each dump keeps",
}
_LINE = "{:<14} {:<12} {:<11} {:<9} {}"


def mem_usage_text(usage: MemUsage) -> str:
    """Return the table, and what it has no line for."""
    lines = [_LINE.format("TYPE", "PAGES", "EXCLUDABLE", "VMALLOC", "DESCRIPTION")]
    lines.append("-" * 79)
    for one, description in _DESCRIPTIONS.items():
        excludable = "yes" if one.excludable else "no"
        mapped = "unknown" if usage.mapped is None else usage.mapped[one]
        words = (one.name, usage.pages[one], excludable, mapped, description)
        lines.append(_LINE.format(*words))
    page_size = usage.kernel.page_size
    lines += ["", f"page size:             {page_size}"]
    lines.append(f"Total pages on system: {usage.total}")
    lines.append(f"Total size on system:  {usage.total * page_size} Byte")
    lines += _notes(usage)
    return "".join(f"{line}\n" for line in lines)


def mem_usage_json(usage: MemUsage) -> Dict[str, Any]:
    """Return the body of the JSON document."""
    return {
        "page_size": usage.kernel.page_size,
        "total_pages": usage.total,
        "classes": [_class_json(usage, one) for one in _DESCRIPTIONS],
        "left_out_pages": usage.pages[PageClass.LEFT_OUT],
        "unknown_pages": usage.pages[PageClass.UNKNOWN],
        "vmalloc_pages": None if usage.mapped is None else sum(usage.mapped.values()),
    }


def _class_json(usage: MemUsage, one: PageClass) -> Dict[str, Any]:
    return {
        "type": one.name,
        "pages": usage.pages[one],
        "excludable": one.excludable,
        "vmalloc_pages": None if usage.mapped is None else usage.mapped[one],
    }


def _notes(usage: MemUsage) -> Iterator[str]:
    if usage.pages[PageClass.LEFT_OUT]:
        yield f"Offline or poisoned:   {usage.pages[PageClass.LEFT_OUT]} pages"
    if usage.mapped is not None:
        mapped = sum(usage.mapped.values())
        kept = usage.mapped[PageClass.KERN_DATA]
        yield f"Mapped by vmalloc:     {mapped} pages, {mapped - kept} of them excludable"
