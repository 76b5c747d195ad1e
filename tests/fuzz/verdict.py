# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong with how a verb ended and what it printed."""

from __future__ import annotations

import csv
import io
import json
import traceback
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import TracebackType
from typing import Iterator, Optional, Sequence

from drgn import Program
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import drgn_vmap

__all__ = ("Failure", "innermost", "raised", "wrong")

_PACKAGE = f"{Path(drgn_vmap.__file__).parent}/"
_VOID = {"meta", "link", "br", "hr", "img", "input", "col"}


@dataclass(frozen=True)
class Failure:
    """One thing that went wrong in one run."""

    what: str
    """Kind: ``traceback``, ``hang``, ``memory``, ``JSON``, …"""
    where: str
    """Same for what is likely to have the same cause."""
    verb: str
    detail: str


def raised(verb: str, error: BaseException) -> Failure:
    """Return the failure that an exception left a verb."""
    what = "memory" if isinstance(error, MemoryError) else "traceback"
    where = f"{type(error).__name__} in {_frame(error.__traceback__)}"
    return Failure(
        what,
        where,
        verb,
        "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    )


def wrong(
    argv: Sequence[str], status: object, out: bytes, err: bytes, folder: Path
) -> Iterator[Failure]:
    """
    Yield what is wrong with how a verb ended.

    :param argv: The verb and its arguments.
    :param folder: What it ran in.
    """
    verb = argv[0]

    def failure(what: str, detail: object) -> Failure:
        form = " ".join(argv)
        where = f"status {status}: {str(detail).partition(chr(10))[0][:60]}"
        shown = f"{form}\n{detail}\n{out[:2000]!r}\n{err[:2000]!r}"
        return Failure(what, where, verb, shown)

    text = out.decode("utf-8", "surrogateescape")
    complaint = err.decode("utf-8", "surrogateescape")
    if "Traceback (most recent" in complaint:
        yield failure("traceback on stderr", complaint)
    if ": memory is not enough: " in complaint:
        yield failure("memory", "more than there may be")
    if status not in (0, 1, 2) or isinstance(status, bool):
        yield failure("exit status", f"{status!r}")
    if status == 2:
        if out:
            yield failure("output with status 2", text[:60])
        if complaint.count("\n") != 1 or not complaint.startswith(f"vmap {verb}: "):
            yield failure("not one line on stderr with status 2", complaint)
    if any(not c.isprintable() for c in set(text + complaint) - {"\n", "\r"}):
        yield failure("not escaped", "raw control characters")
    if status in (0, 1) and "--help" not in argv and "-h" not in argv:
        yield from (failure(*found) for found in _malformed(argv, text, folder))


def innermost(dump: str) -> str:
    """Return the innermost frame of the package in what faulthandler printed."""
    for line in dump.splitlines():
        _, found, rest = line.partition(_PACKAGE)
        if found and line.lstrip().startswith("File "):
            file, _, place = rest.partition('"')
            return f"{file}:{place.rpartition(' in ')[2]}"
    return "?"


def _frame(trace: Optional[TracebackType]) -> str:
    """Return the innermost frame of the package, and what it called."""
    frames = traceback.extract_tb(trace)
    for frame in reversed(frames):
        _, found, file = frame.filename.partition(_PACKAGE)
        if found:
            return f"{file}:{frame.name}"
    return "?"


def _malformed(
    argv: Sequence[str], text: str, folder: Path
) -> Iterator[tuple[str, object]]:
    """Yield the format that is not kept, and how."""
    verb, words = argv[0], " ".join(argv)
    try:
        if "--json" in argv or "--format json" in words:
            name = "JSON"
            _check_json(_output(argv, folder, text))
        elif "--openmetrics" in argv:
            name = "OpenMetrics"
            list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
        elif "--format csv" in words:
            name = "CSV"
            _check_csv(text)
        elif verb == "report":
            name = "HTML"
            _check_html(_output(argv, folder, text))
        elif verb == "slice":
            name = "slice"
            _check_slice(argv, folder)
    except Exception as e:
        yield f"invalid {name}", f"{type(e).__name__}: {e}"


def _check_json(text: str) -> None:
    document = json.loads(text, parse_constant=_no_constant)
    missing = {"schema", "command", "problems"} - document.keys()
    if missing:
        raise ValueError(f"without {sorted(missing)}")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check_csv(text: str) -> None:
    rows = list(csv.reader(io.StringIO(text), strict=True))
    if len({len(row) for row in rows}) != 1:
        raise ValueError("rows of different lengths")


def _check_html(text: str) -> None:
    _Nested(text)


def _check_slice(argv: Sequence[str], folder: Path) -> None:
    path = _path(argv, folder)
    if path is not None:
        Program().set_core_dump(path)


def _output(argv: Sequence[str], folder: Path, text: str) -> str:
    path = _path(argv, folder)
    return text if path is None else path.read_text(encoding="utf-8")


def _path(argv: Sequence[str], folder: Path) -> Optional[Path]:
    """Return the file that was written, None for standard output."""
    if "-o" not in argv:
        return None
    name = argv[len(argv) - 1 - argv[::-1].index("-o") + 1]
    return None if name == "-" else folder / name


class _Nested(HTMLParser):
    """Checks that elements are nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        if self._open or "</html>" not in text:
            raise ValueError(f"{self._open} are not closed")

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            raise ValueError(f"</{tag}> closes nothing")
