# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What changed
------------

Compares the busy areas of two moments. An area is the same if it begins at the
same address and has the same caller; or, where addresses tell nothing, if it has the
same size and caller.
"""

from typing import Counter, Dict, Iterable, Tuple

from ..model.areas import Area, State
from ..model.saved import CallerChange, Difference

__all__ = ("compare",)

_Key = Tuple[int, str, int]


def compare(
    old: Iterable[Area], new: Iterable[Area], by_address: bool = True
) -> Difference:
    """
    Compare the areas of two moments, the older first.

    :param by_address: Whether an address of the one means the same in the other.
    """
    before, after = _busy(old, by_address), _busy(new, by_address)
    common = [(before[key], after[key]) for key in before.keys() & after.keys()]
    grown = [pair for pair in common if _extent(pair[0]) != _extent(pair[1])]
    return Difference(
        common=len(common),
        added=_sorted(after[key] for key in after.keys() - before.keys()),
        removed=_sorted(before[key] for key in before.keys() - after.keys()),
        grown=tuple(sorted(grown, key=_growth)),
        by_caller=_by_caller(before.values(), after.values()),
    )


def _busy(areas: Iterable[Area], by_address: bool) -> Dict[_Key, Area]:
    """Number those that are the same; addresses are all different, hashes hardly."""
    seen: Counter[Tuple[int, str]] = Counter()
    busy: Dict[_Key, Area] = {}
    for area in areas:
        if area.state == State.BUSY:
            same = (area.start if by_address else area.size, _caller(area))
            busy[(*same, seen[same])] = area
            seen[same] += 1
    return busy


def _caller(area: Area) -> str:
    """Return who made an area; what vm_map_ram() made has its kind instead."""
    return area.caller or " ".join(area.kinds) or "(no caller)"


def _extent(area: Area) -> Tuple[int, int]:
    return area.size, area.pages or 0


def _sorted(areas: Iterable[Area]) -> Tuple[Area, ...]:
    return tuple(sorted(areas, key=lambda area: (-area.size, area.start)))


def _growth(pair: Tuple[Area, Area]) -> Tuple[int, int, int]:
    old, new = pair
    return old.size - new.size, (old.pages or 0) - (new.pages or 0), new.start


def _by_caller(
    before: Iterable[Area], after: Iterable[Area]
) -> Tuple[CallerChange, ...]:
    areas: Counter[str] = Counter()
    size: Counter[str] = Counter()
    pages: Counter[str] = Counter()
    for sign, side in ((-1, before), (1, after)):
        for area in side:
            caller = _caller(area)
            areas[caller] += sign
            size[caller] += sign * area.size
            pages[caller] += sign * (area.pages or 0)
    changes = [CallerChange(key, areas[key], size[key], pages[key]) for key in areas]
    changed = [one for one in changes if one.areas or one.bytes or one.pages]
    return tuple(sorted(changed, key=lambda one: (-one.bytes, -one.pages, one.caller)))
