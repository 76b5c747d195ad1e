# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What changed
------------

Compares the busy areas of two moments. An area is the same if it begins at the same
address and has the same caller; or, where addresses tell nothing, if it has the
same size and caller.
"""

from dataclasses import replace
from typing import Callable, Dict, Iterable, Iterator, Sequence, Tuple

from .._numpy import Array, U64Array, np
from ..model.areas import Area, State
from ..model.saved import AreaList, CallerChange, Difference, Moment, SavedText
from .owners import owner_key
from .saved_text import describe_saved

__all__ = ("compare", "compare_moments", "moment_of_areas", "moment_of_text")

_NO_CALLER = "(no caller)"


def compare(
    old: Iterable[Area], new: Iterable[Area], by_address: bool = True
) -> Difference:
    """
    Compare the areas of two moments, the older first.

    :param by_address: Whether an address of the one means the same in the other.
    """
    before, after = _alike(moment_of_areas(tuple(old)), moment_of_areas(tuple(new)))
    return _difference(before, after, *_matched(before, after, by_address))


def compare_moments(old: Moment, new: Moment) -> Difference:
    """
    Compare two moments, the older first, by address if that tells more.

    Addresses of two boots, and hashes of them, have nothing in common; nor have callers
    of two releases, but for their symbols.
    """
    old, new = _alike(old, new, _in_text if old.is_text or new.is_text else str)
    notes = []
    if _have_less_in_common(old, new):
        old, new = _alike(old, new, _symbol)
        notes.append("callers were matched by symbol alone: these are two kernels")
    matched = _matched(old, new, by_address=False)
    if not old.pointers == new.pointers != "none":
        notes.append("areas were matched by caller and size: addresses tell nothing")
    else:
        same = _matched(old, new, by_address=True)
        if 2 * len(same[0]) < len(matched[0]):
            notes.append(
                "areas were matched by caller and size: the addresses are of two boots"
            )
        else:
            matched = same
    found = _difference(old, new, *matched)
    return replace(found, notes=tuple(notes), left_out=old.left_out + new.left_out)


def moment_of_areas(areas: Sequence[Area], pointers: str = "raw") -> Moment:
    """Return areas as a moment to compare."""
    busy = [area for area in areas if area.state == State.BUSY]
    callers: Dict[str, int] = {}
    caller = [callers.setdefault(_caller(area), len(callers)) for area in busy]
    owners: Dict[str, int] = {}
    owner = [owners.setdefault(owner_key(area.owners), len(owners)) for area in busy]
    has_owners = any(area.owners for area in busy)
    return Moment(
        start=_column(area.start for area in busy),
        size=_column(area.size for area in busy),
        pages=_column(area.pages or 0 for area in busy),
        caller=np.array(caller, np.int64),
        callers=tuple(callers),
        describe=lambda rows: (busy[row] for row in rows.tolist()),
        pointers=pointers,
        owner=np.array(owner, np.int64) if has_owners else None,
        owners=tuple(owners) if has_owners else (),
    )


def moment_of_text(saved: SavedText) -> Moment:
    """Return a copy of /proc/vmallocinfo as a moment to compare."""
    areas = saved.snapshot.areas
    rows = np.flatnonzero(areas.state == State.BUSY)
    names = saved.snapshot.callers
    ram = max(names, default=0) + 1
    callers = [names.get(number, _NO_CALLER) for number in range(ram)]
    caller = areas.caller[rows].astype(np.int64)
    caller[areas.vm[rows] == 0] = ram
    none = (caller == 0).nonzero()[0]
    if len(none):
        # What has no caller goes by its kinds.
        kinds = [area.kinds for area in describe_saved(saved, rows[none])]
        for at, kind in zip(none.tolist(), kinds):
            callers.append(" ".join(kind) or _NO_CALLER)
            caller[at] = len(callers)
    callers.insert(ram, "vm_map_ram")
    return Moment(
        start=areas.start[rows],
        size=(areas.end - areas.start)[rows],
        pages=areas.nr_pages[rows],
        caller=caller,
        callers=tuple(callers),
        describe=lambda some: describe_saved(saved, rows[some]),
        pointers=saved.pointers,
        is_text=True,
        left_out=saved.left_out,
    )


def _caller(area: Area) -> str:
    """Return who made an area; what vm_map_ram() made has its kind instead."""
    return area.caller or " ".join(area.kinds) or _NO_CALLER


def _alike(
    old: Moment, new: Moment, name: Callable[[str], str] = str
) -> Tuple[Moment, Moment]:
    """Return both moments with the same callers, which go by the names they are given."""
    index: Dict[str, int] = {}
    before, after = (
        np.array(
            [index.setdefault(name(one), len(index)) for one in moment.callers],
            np.int64,
        )[moment.caller]
        for moment in (old, new)
    )
    names = tuple(index)
    return (
        replace(old, caller=before, callers=names),
        replace(new, caller=after, callers=names),
    )


def _in_text(caller: str) -> str:
    """Return what a text says of a caller: vm_map_ram of blocks as well."""
    return "vm_map_ram" if caller == "vmap_block" else caller


def _symbol(caller: str) -> str:
    symbol, _, rest = caller.strip("<>").partition("+")
    _, module, name = rest.partition(" [")
    return f"{symbol}{module}{name}"


def _have_less_in_common(old: Moment, new: Moment) -> bool:
    """Whether two have symbols of callers in common, but hardly what is behind them."""
    names = old.callers
    named = np.array(["+" in name or name[:1] == "<" for name in names], bool)
    before, after = (
        named & (np.bincount(moment.caller, minlength=len(names)) > 0)
        for moment in (old, new)
    )
    same = int(np.count_nonzero(before & after))
    if 2 * same >= min(np.count_nonzero(before), np.count_nonzero(after)):
        return False
    symbols, others = (
        {_symbol(names[at]) for at in np.flatnonzero(some).tolist()}
        for some in (before, after)
    )
    common = len(symbols & others)
    return common > 1 and 2 * same < common


def _matched(old: Moment, new: Moment, by_address: bool) -> Tuple[Array, Array]:
    """Return the rows of areas that are in both, side by side."""
    before, after = (
        moment.start if by_address else moment.size for moment in (old, new)
    )
    keys = _numbered(
        np.concatenate([before, after]),
        np.concatenate([old.caller, new.caller]),
        len(before),
    )
    _, old_rows, new_rows = np.intersect1d(
        keys[: len(before)], keys[len(before) :], True, return_indices=True
    )
    return old_rows, new_rows


def _difference(
    old: Moment, new: Moment, old_rows: Array, new_rows: Array
) -> Difference:
    """
    Return what changed.

    :param old_rows: Areas that are in both; and which ones these are in the other.
    """
    differs = old.size[old_rows] != new.size[new_rows]
    differs |= old.pages[old_rows] != new.pages[new_rows]
    grown = zip(old.describe(old_rows[differs]), new.describe(new_rows[differs]))
    return Difference(
        common=len(old_rows),
        added=_others(new, new_rows),
        removed=_others(old, old_rows),
        grown=tuple(sorted(grown, key=_growth)),
        by_caller=tuple(_by_caller(old, new)),
        by_owner=tuple(_by_owner(old, new)),
    )


def _numbered(value: U64Array, caller: Array, first: int) -> Array:
    """
    Return keys that are the same for areas that are the same.

    Several areas of one moment that have value and caller in common are numbered;
    addresses are all different, hashes hardly.

    :param first: How many are of the first moment.
    """
    _, group = np.unique(value, return_inverse=True)
    _, group = np.unique(
        group * (caller.max(initial=0) + 1) + caller, return_inverse=True
    )
    side = np.arange(len(value)) >= first
    order = np.lexsort((side, group))
    code = group[order] * 2 + side[order]
    begins = np.concatenate(([True], code[1:] != code[:-1]))[: len(code)]
    at = np.arange(len(code))
    ordinal = np.empty(len(code), np.int64)
    ordinal[order] = at - np.maximum.accumulate(np.where(begins, at, 0))
    return group * (len(value) + 1) + ordinal


def _others(moment: Moment, rows: Array) -> AreaList:
    """Return all areas but these, the largest first."""
    others = np.ones(len(moment.start), bool)
    others[rows] = False
    rows = np.flatnonzero(others)
    order = np.lexsort((moment.start[rows], -moment.size[rows].astype(np.int64)))
    return AreaList(moment, rows[order])


def _growth(pair: Tuple[Area, Area]) -> Tuple[int, int, int]:
    old, new = pair
    return old.size - new.size, (old.pages or 0) - (new.pages or 0), new.start


def _by_caller(old: Moment, new: Moment) -> Iterator[CallerChange]:
    return _changes(old.callers, (old, old.caller), (new, new.caller))


def _by_owner(old: Moment, new: Moment) -> Iterator[CallerChange]:
    if old.owner is None or new.owner is None:
        return iter(())
    names = tuple(dict.fromkeys((*old.owners, *new.owners)))
    place = {name: at for at, name in enumerate(names)}
    before, after = (
        (moment, np.array([place[name] for name in moment.owners], np.int64)[owner])
        for moment, owner in ((old, old.owner), (new, new.owner))
    )
    return _changes(names, before, after)


def _changes(
    names: Sequence[str], old: Tuple[Moment, Array], new: Tuple[Moment, Array]
) -> Iterator[CallerChange]:
    """
    Return who holds more or less than before.

    :param old: Of the earlier moment, with the index of each area's name.
    """
    sums = np.zeros((3, len(names)), np.int64)
    for sign, (moment, group) in zip((-1, 1), (old, new)):
        ones = np.ones(len(group), np.int64)
        for row, values in zip(sums, (ones, moment.size, moment.pages)):
            np.add.at(row, group, sign * values.astype(np.int64))
    changed = np.flatnonzero(sums.any(axis=0)).tolist()
    found = [CallerChange(names[at], *sums[:, at].tolist()) for at in changed]
    yield from sorted(found, key=lambda one: (-one.bytes, -one.pages, one.caller))


def _column(values: Iterable[int]) -> U64Array:
    return np.fromiter(values, np.uint64)
