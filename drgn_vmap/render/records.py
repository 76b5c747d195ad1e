# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Records
-------

Areas as JSON, CSV and as a table for people.
"""

import csv
import io
import json
import re
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from .._numpy import Array
from ..model.areas import Area, AreaTable, Kernel, Problem, Snapshot
from ..model.owners import Owner
from .escape import printable
from .repeats import texts_of_rows
from .tables import SEPARATOR, columns_that_fit, cut, left_out, plain_table, width_of

__all__ = (
    "area_csv",
    "area_document",
    "area_json",
    "area_table",
    "csv_areas",
    "document",
    "json_areas",
    "json_document",
    "kernel_json",
    "owner_text",
    "owners_json",
    "table_areas",
)

_SCHEMA = 1
_AREAS_AT_ONCE = 4_000

_Describe = Callable[[Snapshot, Array], Iterable[Area]]

_CSV_COLUMNS = (
    "start",
    "end",
    "size",
    "state",
    "kinds",
    "va_flags",
    "vm_flags",
    "caller",
    "caller_addr",
    "pages",
    "page_order",
    "phys",
    "numa",
    "node",
    "requested_size",
)
_FORMULAS_START = ("=", "+", "-", "@", "'")
"""And the quote that says that a cell is none. Tabs and line ends are escaped."""

_NO_AREA = "no area matches\n"
_SPARE = (
    *("NODE", "VA FLAGS", "VM FLAGS", "NUMA", "PHYS"),
    *("END", "STATE", "PAGES", "KINDS"),
)
"""Of the table, on a narrow terminal: the least that people ask for first."""


def document(
    command: str, kernel: Optional[Kernel], problems: Sequence[Problem], **body: Any
) -> str:
    """
    Return a command's result as one JSON document.

    :param kernel: None if all that is known is a saved text.
    """
    names = None if kernel is None else kernel_json(kernel)
    return json_document(command, names, problems, **body)


def kernel_json(kernel: Kernel) -> Dict[str, object]:
    """Return what every document says of the kernel."""
    return {
        "release": kernel.release,
        "layout": kernel.layout,
        "live": kernel.live,
        "symbols": kernel.symbols,
    }


def json_document(
    command: str,
    kernel: Optional[Mapping[str, object]],
    problems: Sequence[Problem],
    **body: Any,
) -> str:
    """
    Return a JSON document whose kernel is already in the form that JSON has.

    It is all ASCII: no name can control a terminal, and no terminal spoils a name.
    """
    whole = {
        **_head(command, kernel),
        **body,
        "problems": _problems(problems),
    }
    return json.dumps(whole, indent=1) + "\n"


def area_document(
    kernel: Optional[Kernel],
    problems: Sequence[Problem],
    areas: Iterable[str],
    **body: Any,
) -> Iterator[str]:
    """
    Yield the document of ``ls`` piece by piece, as areas can be many.

    :param kernel: None if all that is known is a saved text.
    :param areas: Texts of :func:`json_areas`.
    """
    names = None if kernel is None else kernel_json(kernel)
    # Without the braces, as there is more to come and was some before.
    head = json.dumps(_head("ls", names), indent=1)[:-2]
    tail = json.dumps({**body, "problems": _problems(problems)}, indent=1)[1:]
    yield f'{head},\n "areas": ['
    before = ""
    for text in areas:
        yield f"{before}\n  {text}"
        before = ","
    yield f"\n ],{tail}\n"


def json_areas(snapshot: Snapshot, rows: Array, describe: _Describe) -> Iterator[str]:
    """
    Yield areas as JSON, one a line, many in one text, with commas between them.

    :param rows: Rows of ``snapshot.areas`` in the order to print them.
    :param describe: Returns some rows as areas.
    """

    def rest(area: Area) -> str:
        values = area_json(area)
        del values["start"], values["end"]
        return f'", {json.dumps(values)[1:]}'

    for texts in _areas(snapshot, rows, describe, ('{"start": "', '", "end": "'), rest):
        yield ",\n  ".join(texts)


def area_json(area: Area) -> Dict[str, Any]:
    """Return an area as JSON has it: what does not apply is absent."""
    values: Dict[str, Any] = {
        "start": f"{area.start:#x}",
        "end": f"{area.end:#x}",
        "size": area.size,
        "state": area.state.label,
        "kinds": list(area.kinds),
        "va_flags": area.va_flags,
        "vm_flags": area.vm_flags,
        "caller": area.caller,
        "caller_addr": _hex(area.caller_addr),
        "pages": area.pages,
        "page_order": area.page_order,
        "phys": _hex(area.phys),
        "numa": area.numa and {str(node): n for node, n in area.numa.items()},
        "node": area.vmap_node,
        "requested_size": area.requested_size,
        **owners_json(area.owners),
    }
    return {key: value for key, value in values.items() if value is not None}


def owners_json(owners: Sequence[Owner]) -> Dict[str, Any]:
    """Return owners as JSON has them: the first by itself, all if there are several."""
    found: Dict[str, Any] = {}
    if owners:
        found["owner"] = _owner_json(owners[0])
    if owners[1:]:
        found["owners"] = [*map(_owner_json, owners)]
    return found


def _owner_json(owner: Owner) -> Dict[str, Any]:
    values = {
        "kind": owner.kind,
        "name": owner.name,
        "id": owner.id,
        "detail": owner.detail or None,
        "proof": owner.proof or None,
    }
    return {key: value for key, value in values.items() if value is not None}


def owner_text(owner: Owner) -> str:
    """Return who an owner is in a few words, as a terminal may have them."""
    id_ = "" if owner.id is None else f" {owner.id}"
    return f"{owner.kind}{id_} {printable(owner.name)}"


def csv_areas(
    snapshot: Snapshot, rows: Array, describe: _Describe, with_owners: bool = False
) -> Iterator[str]:
    """
    Yield areas as CSV with a header, as :func:`json_areas` yields JSON.

    :param with_owners: Whether to say whose they are.
    """
    columns = _csv_columns(with_owners)

    def rest(area: Area) -> str:
        return "," + _csv_rows([area], columns).split(",", 2)[2]

    yield _csv_header(columns)
    for texts in _areas(snapshot, rows, describe, ("", ","), rest):
        yield "".join(texts)


def area_csv(areas: Iterable[Area], with_owners: bool = False) -> str:
    """
    Return areas as CSV with a header; what does not apply is empty.

    :param with_owners: Whether to say whose they are.
    """
    columns = _csv_columns(with_owners)
    return _csv_header(columns) + _csv_rows(areas, columns)


_OFFSET = re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+")


def area_table(areas: Iterable[Area], width: Optional[int] = None) -> str:
    """
    Return areas as a table with a line of headings.

    :param width: Of the terminal.
    """
    rows = [_cells(area) for area in areas]
    if not rows:
        return _NO_AREA
    headers, align = _columns()
    return plain_table(rows, headers, align, width, _SPARE) + "\n"


def table_areas(
    snapshot: Snapshot,
    rows: Array,
    describe: _Describe,
    width: Optional[int] = None,
    with_owners: bool = False,
) -> Iterator[str]:
    """
    Yield areas as such a table, as :func:`json_areas` yields JSON.

    :param width: Of the terminal.
    :param with_owners: Whether to say whose they are. On a terminal, callers are without
        offsets then, so that there is room for that.
    """
    if not len(rows):
        yield _NO_AREA
        return
    areas = snapshot.areas.take(rows)
    table = _BulkTable(areas, width, with_owners)
    rests = texts_of_rows(
        _what_is_told(areas),
        lambda some: table.lay_out(describe(snapshot, rows[some])),
    )
    yield table.head()
    for at in range(0, len(rests), _AREAS_AT_ONCE):
        yield table.lines(rests, slice(at, at + _AREAS_AT_ONCE))
    yield table.foot()


class _BulkTable:
    """
    A table whose lines are laid out once for all areas that are alike but for addresses.

    The parameters are those of :func:`table_areas`.
    """

    def __init__(
        self, areas: AreaTable, width: Optional[int], with_owners: bool
    ) -> None:
        self._addresses = (areas.start.tolist(), areas.end.tolist())
        self._longest = [hex(max(column)) for column in self._addresses]
        self._width, self._with_owners = width, with_owners

    def lay_out(self, areas: Iterable[Area]) -> List[str]:
        """Return lines of areas that stand for others, with the longest addresses."""
        is_short = self._with_owners and self._width is not None
        cells = [
            [*self._longest, *_cells(area, self._with_owners, is_short)[2:]]
            for area in areas
        ]
        self._headers, align = _columns(self._with_owners)
        self._shown = columns_that_fit(cells, self._headers, self._width, _SPARE)
        heads, aligned, *rows = [
            [row[at] for at in self._shown] for row in (self._headers, align, *cells)
        ]
        self._head, *lines = plain_table(rows, heads, aligned).splitlines()
        # Of addresses the end may be left out, but never the start.
        self._sizes = [
            width_of(head, [longest]) + SEPARATOR
            for head, longest in zip(heads[: 1 + (1 in self._shown)], self._longest)
        ]
        return lines

    def head(self) -> str:
        """Return the line of headings."""
        return f"{cut(self._head, self._width)}\n"

    def lines(self, laid_out: Sequence[str], some: slice) -> str:
        """Return some of the lines, with their own addresses."""
        inside = sum(self._sizes)
        columns = [
            [f"{address:<#{size}x}" for address in column[some]]
            for column, size in zip(self._addresses, self._sizes)
        ]
        rests = [line[inside:] for line in laid_out[some]]
        whole = map("".join, zip(*columns, rests))
        return "".join([f"{cut(line, self._width)}\n" for line in whole])

    def foot(self) -> str:
        """Return a line that says what is left out, if anything is."""
        return "".join(f"{line}\n" for line in left_out(self._headers, self._shown))


def _cells(area: Area, with_owners: bool = False, is_short: bool = False) -> List[str]:
    """
    Return what a table has of an area.

    :param is_short: Whether to leave out the caller's offset.
    """
    caller = area.caller or "-"
    return [
        f"{area.start:#x}",
        f"{area.end:#x}",
        str(area.size),
        area.state.label,
        " ".join(area.kinds) or "-",
        "-" if area.vmap_node is None else str(area.vmap_node),
        "-" if area.va_flags is None else f"{area.va_flags:#x}",
        "-" if area.vm_flags is None else f"{area.vm_flags:#x}",
        "-" if area.pages is None else str(area.pages),
        _numa(area) or "-",
        "-" if area.phys is None else f"{area.phys:#x}",
        printable(_OFFSET.sub("", caller) if is_short else caller),
        *(["; ".join(map(owner_text, area.owners)) or "-"] if with_owners else []),
    ]


def _columns(with_owners: bool = False) -> Tuple[List[str], List[str]]:
    """Return the headings, and how what is below them is aligned."""
    headers = [
        *("START", "END", "SIZE", "STATE", "KINDS", "NODE", "VA FLAGS", "VM FLAGS"),
        *("PAGES", "NUMA", "PHYS", "CALLER"),
        *(["OWNER"] if with_owners else []),
    ]
    return headers, [
        "right" if heading in ("SIZE", "NODE", "PAGES") else "left"
        for heading in headers
    ]


def _head(command: str, kernel: Optional[Mapping[str, object]]) -> Dict[str, object]:
    return {"schema": _SCHEMA, "command": command, "kernel": kernel}


def _problems(problems: Sequence[Problem]) -> List[Dict[str, str]]:
    return [{"what": p.what, "where": p.where, "detail": p.detail} for p in problems]


def _areas(
    snapshot: Snapshot,
    rows: Array,
    describe: _Describe,
    before: Tuple[str, str],
    rest: Callable[[Area], str],
) -> Iterator[List[str]]:
    """
    Yield texts of areas, many at a time.

    :param before: What stands before the start, and before the end.
    :param rest: Returns what follows these.
    """
    for at in range(0, len(rows), _AREAS_AT_ONCE):
        part = rows[at : at + _AREAS_AT_ONCE]
        areas = snapshot.areas.take(part)
        rests = texts_of_rows(
            _what_is_told(areas),
            lambda some: map(rest, describe(snapshot, part[some])),
        )
        addresses = zip(areas.start.tolist(), areas.end.tolist(), rests)
        first, second = before
        yield [f"{first}{s:#x}{second}{e:#x}{rest}" for s, e, rest in addresses]


def _what_is_told(areas: AreaTable) -> Sequence[Array]:
    """Return all that areas have besides addresses, or that follows from these."""
    return (
        areas.end - areas.start,
        areas.state,
        areas.vmap_node,
        areas.va_flags,
        areas.is_block,
        areas.vm != 0,
        areas.vm_ok,
        areas.flags,
        areas.nr_pages,
        areas.page_order,
        areas.phys_addr,
        areas.caller,
        areas.requested_size,
        areas.owners,
        *areas.numa_pages.T,
    )


def _csv_columns(with_owners: bool) -> Sequence[str]:
    return (*_CSV_COLUMNS, "owner") if with_owners else _CSV_COLUMNS


def _csv_header(columns: Sequence[str]) -> str:
    return ",".join(columns) + "\n"


def _csv_rows(areas: Iterable[Area], columns: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(
        out, columns, restval="", extrasaction="ignore", lineterminator="\n"
    )
    for area in areas:
        row = area_json(area)
        row["kinds"] = " ".join(area.kinds)
        row["numa"] = _numa(area)
        row["caller"] = _csv_text(printable(area.caller or ""))
        row["owner"] = _csv_text("; ".join(map(owner_text, area.owners)))
        writer.writerow(row)
    return out.getvalue()


def _csv_text(text: str) -> str:
    """
    Return the cell of a text that a target chose: no spreadsheet takes it for a formula,
    and a program gets the text back by dropping the one quote that it begins with, if
    it does.
    """
    return f"'{text}" if text.startswith(_FORMULAS_START) else text


def _hex(value: "int | None") -> "str | None":
    return None if value is None else f"{value:#x}"


def _numa(area: Area) -> str:
    return " ".join(f"N{node}={count}" for node, count in (area.numa or {}).items())
