# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Saved areas
-----------

Reads areas back from what ``vmap ls --json`` printed. (What a kernel printed is
read by :mod:`drgn_vmap.analyses.saved_text`.) What is not exactly that is
refused, with the place that does not fit, and never guessed.
"""

import csv
import io
import json
import re
from dataclasses import replace
from typing import Any, Dict, Iterator, Mapping, Tuple

from ..errors import UsageError
from ..model.areas import Area, State
from ..model.owners import Owner, OwnerKind
from ..model.saved import SavedAreas
from ..model.vmallocinfo import CALLER

__all__ = ("areas_from_csv", "areas_from_json", "listable")

_STATES = {state.label: state for state in State}
_HEX = ("caller_addr", "phys")
_TOP = 1 << 64
"""No address and no number of a kernel's is beyond that; an area may end there."""
_MOST_PAGES = 1 << 52
"""As many as addresses are there for."""
_CALLER = re.compile(CALLER)
_NOT_IN_BRACKETS = re.compile("[^!-;=?-~]")
_NUMBERS = ("va_flags", "vm_flags", "page_order", "requested_size")


def areas_from_json(name: str, text: str) -> SavedAreas:
    """
    Read the JSON document that ``ls`` prints.

    :param name: Of the file, for messages.
    :raises UsageError: if it is anything else.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(
            f"{name} is no JSON ({e}): give what vmap ls --json printed, a vmcore that "
            "is not packed, or a copy of /proc/vmallocinfo"
        ) from e
    if not isinstance(document, dict) or document.get("command") != "ls":
        raise UsageError(f"{name} was not printed by vmap ls --json: {_ADVICE}")
    if document.get("schema") != 1:
        raise UsageError(
            f"{name} has schema {document.get('schema')!r}, only 1 is known: "
            "use the vmap that it was made with"
        )
    rows, kernel = document.get("areas"), document.get("kernel")
    if not isinstance(rows, list) or not isinstance(kernel, (dict, type(None))):
        raise UsageError(f"{name} has no list of areas or no kernel: {_ADVICE}")
    pointers = document.get("pointers", "raw")
    if pointers not in ("raw", "hashed", "none"):
        raise UsageError(f"{name} has unknown pointers {pointers!r}: {_ADVICE}")
    areas = tuple(_area(name, at, row) for at, row in enumerate(rows))
    return SavedAreas(name, kernel, areas, pointers)


def areas_from_csv(name: str, text: str) -> SavedAreas:
    """
    Read the CSV that ``ls`` prints.

    :param name: Of the file, for messages.
    :raises UsageError: if it is anything else.
    """
    areas = tuple(_area(name, at, row) for at, row in enumerate(_rows(name, text)))
    return SavedAreas(name, None, areas)


def listable(saved: SavedAreas) -> SavedAreas:
    """
    Return areas as lines of /proc/vmallocinfo can have them.

    Those of a damaged kernel may end where no address is, and their callers may be called
    anything: what no %pS prints is put in <>, with a question mark for each character that
    cannot stand there.
    """
    return replace(saved, areas=tuple(map(_listable, saved.areas)))


def _listable(area: Area) -> Area:
    caller = area.caller
    if caller and not _CALLER.fullmatch(caller):
        caller = f"<{_NOT_IN_BRACKETS.sub('?', caller)}>"
    return replace(area, caller=caller, end=min(area.end, _TOP - 1))


def _rows(name: str, text: str) -> Iterator[Mapping[str, Any]]:
    try:
        for row in csv.DictReader(io.StringIO(text)):
            yield _of_csv(row)
    # Python has a limit to the digits of a number and to the length of a field.
    except (ValueError, csv.Error) as e:
        raise UsageError(f"{name} is no CSV ({e}): {_ADVICE}") from e


def _of_csv(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row as JSON has it: what does not apply is absent."""
    found: Dict[str, Any] = {key: value for key, value in row.items() if value}
    found["kinds"] = found.get("kinds", "").split()
    if str(found.get("caller", "")).startswith("'"):
        # What spreadsheets would take for a formula has a mark before it.
        found["caller"] = found["caller"][1:]
    for key in (*_NUMBERS, "pages", "node"):
        if key in found and str(found[key]).isdecimal():
            found[key] = int(found[key])
    if "numa" in found:
        counts = re.findall(r"N(\d+)=(\d+)", str(found["numa"]))
        found["numa"] = {node: int(count) for node, count in counts}
    return found


_ADVICE = "give a file that it made"


def _area(name: str, at: int, row: Any) -> Area:
    try:
        start, end = _address(row["start"]), _address(row["end"], _TOP)
        if start >= end:
            raise ValueError(f"it ends at {row['end']}")
        return Area(
            start=start,
            end=end,
            state=_STATES[row["state"]],
            kinds=tuple(map(_string, row["kinds"])),
            caller=_optional(row, "caller", _string),
            pages=_optional(row, "pages", _pages),
            numa=_optional(row, "numa", _numa),
            vmap_node=_optional(row, "node", _number),
            owners=_owners(row),
            **{key: _optional(row, key, _address) for key in _HEX},
            **{key: _optional(row, key, _number) for key in _NUMBERS},
        )
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(
            f"{name}: area {at} does not fit ({repr(e)[:120]}): {_ADVICE}"
        ) from e


def _owners(row: Mapping[str, Any]) -> Tuple[Owner, ...]:
    if not isinstance(row.get("owner"), dict):
        return ()  # None is known, or it is a cell of CSV.
    return tuple(
        Owner(
            OwnerKind(one["kind"]),
            _string(one["name"]),
            _optional(one, "id", _number),
            _optional(one, "detail", _string) or "",
            _optional(one, "proof", _string) or "",
        )
        for one in row.get("owners", [row["owner"]])
    )


def _optional(row: Mapping[str, Any], key: str, parse: Any) -> Any:
    return parse(row[key]) if key in row else None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: Any, most: int = _TOP - 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no number")
    if not 0 <= value <= most:
        raise ValueError("a number that no kernel has")
    return value


def _pages(value: Any) -> int:
    return _number(value, _MOST_PAGES)


def _address(value: Any, most: int = _TOP - 1) -> int:
    text = _string(value)
    if not re.fullmatch(r"0x[0-9a-f]{1,17}", text) or int(text, 16) > most:
        raise ValueError(f"{text[:20]!r} is no address")
    return int(text, 16)


def _numa(value: Any) -> Dict[int, int]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    if not all(re.fullmatch(r"[0-9]{1,4}", node) for node in value):
        raise ValueError("numa has what is no node")
    return {int(node): _pages(pages) for node, pages in value.items()}
