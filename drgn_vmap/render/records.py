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
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from ..model import Area, Kernel, Problem
from .escape import printable
from .tables import plain_table

__all__ = (
    "area_csv",
    "area_json",
    "area_table",
    "document",
    "json_document",
    "kernel_json",
)

_SCHEMA = 1

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
        "schema": _SCHEMA,
        "command": command,
        "kernel": kernel,
        **body,
        "problems": [
            {"what": p.what, "where": p.where, "detail": p.detail} for p in problems
        ],
    }
    return json.dumps(whole, indent=1) + "\n"


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
        "node": area.node,
        "requested_size": area.requested_size,
    }
    return {key: value for key, value in values.items() if value is not None}


def area_csv(areas: Iterable[Area]) -> str:
    """Return areas as CSV with a header; what does not apply is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for area in areas:
        row = area_json(area)
        row["kinds"] = " ".join(area.kinds)
        row["numa"] = _numa(area)
        row["caller"] = printable(area.caller or "")
        writer.writerow(row)
    return out.getvalue()


def area_table(areas: Iterable[Area], width: Optional[int] = None) -> str:
    """
    Return areas as a table with a line of headings.

    :param width: Of the terminal.
    """
    rows: List[List[str]] = [
        [
            f"{area.start:#x}",
            f"{area.end:#x}",
            str(area.size),
            area.state.label,
            " ".join(area.kinds) or "-",
            "-" if area.node is None else str(area.node),
            "-" if area.va_flags is None else f"{area.va_flags:#x}",
            "-" if area.vm_flags is None else f"{area.vm_flags:#x}",
            "-" if area.pages is None else str(area.pages),
            _numa(area) or "-",
            "-" if area.phys is None else f"{area.phys:#x}",
            printable(area.caller or "-"),
        ]
        for area in areas
    ]
    headers = (
        "START",
        "END",
        "SIZE",
        "STATE",
        "KINDS",
        "NODE",
        "VA FLAGS",
        "VM FLAGS",
        "PAGES",
        "NUMA",
        "PHYS",
        "CALLER",
    )
    align = ["right" if h in ("SIZE", "NODE", "PAGES") else "left" for h in headers]
    if not rows:
        return "no area matches\n"
    return plain_table(rows, headers, align, width, _SPARE) + "\n"


def _hex(value: "int | None") -> "str | None":
    return None if value is None else f"{value:#x}"


def _numa(area: Area) -> str:
    return " ".join(f"N{node}={count}" for node, count in (area.numa or {}).items())
