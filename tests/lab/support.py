# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Which kernels, sources and symbols were tested: docs/support.md.

A test that shows one of them to work says so with ``@shows("ELF", "DWARF")``. While it
runs, that goes into pytest's own record (``--junitxml``) together with the kernel. From
the records of any runs, ``make support`` writes the page; ``pytest -m support`` runs
these tests alone.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Collection, Iterable, NamedTuple, Sequence
from xml.etree import ElementTree

import pytest

from .kernel import Kernel
from .sh_kernel import ShKernel

__all__ = (
    "PAGE",
    "SOURCES",
    "Shown",
    "page",
    "parameter_of",
    "read_page",
    "read_records",
    "shows",
)

PAGE = Path(__file__).parents[2] / "docs/support.md"
PROPERTY = "support"
SOURCES = ("live", "ELF", "kdump", "QMP", "slice", "text")
SYMBOLS = ("DWARF", "BTF")
OF_VMCORE = {"elf": "ELF", "kdump-zlib": "kdump"}
"""Sources by QEMU's name of the format."""
NO_SYMBOLS = "tested"
"""A text needs none."""
NOT_TESTED = "not tested"
TITLES = ("kernel", "release", "architecture", *SOURCES)
INTRODUCTION = """\
# What was tested

`vmap ls` prints what the kernel's own /proc/vmallocinfo holds, byte for byte: on these
kernels, read in these ways. A cell names the symbols that it was tested with: debug
information (DWARF), or none but what the kernel itself carries (BTF). What a cell does not
name was not tested. A text needs no symbols: of each line is tested that it is understood.

"live" is /proc/kcore, "ELF" and "kdump" are vmcores, "QMP" is `drgn --qemu`, "slice" what
`vmap slice` wrote, and "text" a copy of /proc/vmallocinfo.

[Other kernels](field.md) were made as fakes, or looked at by hand.

The samples in vmcores/ are read, without debug information, with drgn 0.0.31, 0.0.33, 0.2.0
and the newest: `make installed`. `vmap slice` needs 0.1.0, and `%vmap` 0.0.33.

`make support` wrote this page from the records of test runs; `make test-all`, `make foreign`,
`make vendors` and `make configured` leave theirs in build/records.
"""


class Shown(NamedTuple):
    """One thing that a test showed."""

    kernel: str
    """What the lab calls it."""

    release: str
    """``uname -r``."""

    architecture: str
    """As Debian calls it."""

    source: str
    symbols: str


def shows(
    source: str | None, symbols: str | None, but_for: Collection[str] = ()
) -> pytest.MarkDecorator:
    """
    Mark a test that shows a source to work.

    :param source: One of SOURCES; None if the format of the vmcore it gets tells.
    :param symbols: One of SYMBOLS, or NO_SYMBOLS; None for a vmcore that is opened
        with debug information only if its kernel does not carry all that is needed.
    :param but_for: Kernels that it shows something else of.
    """
    return pytest.mark.support(source, symbols, but_for)


def parameter_of(item: pytest.Item, name: str) -> str | None:
    """Return what a test gets for a parameter, None if it has none of this name."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(name) if callspec else None


def shown_by(item: pytest.Item, kernel: Kernel | ShKernel) -> Iterable[Shown]:
    """Yield what a test shows, if it passes on a kernel."""
    for mark in item.iter_markers(PROPERTY):
        source, symbols, but_for = mark.args
        if kernel.name in but_for:
            continue
        if source is None:
            source = OF_VMCORE[item.callspec.params["vmcore"]]  # type: ignore[attr-defined]
        if symbols is None:
            symbols = "BTF" if getattr(kernel, "names_itself") else "DWARF"
        # What is special about the machine that it boots.
        name, machine = kernel.name, parameter_of(item, "machine")
        if machine:
            name += f", {machine}"
        architecture = kernel.debian_architecture
        yield Shown(name, kernel.release, architecture, source, symbols)


def record(item: pytest.Item, kernel: Kernel | ShKernel) -> None:
    """Put what a test shows into pytest's record; whether it passed stands there."""
    for shown in shown_by(item, kernel):
        item.user_properties.append((PROPERTY, json.dumps(shown)))


def read_records(paths: Iterable[Path]) -> set[Shown]:
    """Return what the tests of some runs showed: all of those that say so passed."""
    passed: dict[Shown, bool] = defaultdict(lambda: True)
    for path in paths:
        for case in ElementTree.parse(path).iter("testcase"):
            bad = {child.tag for child in case} & {"failure", "error", "skipped"}
            for one in case.iterfind(f"properties/property[@name='{PROPERTY}']"):
                passed[Shown(*json.loads(one.attrib["value"]))] &= not bad
    return {shown for shown, ok in passed.items() if ok}


def page(shown: Iterable[Shown]) -> str:
    """Return the text of the page."""
    rows: dict[tuple[str, str, str], dict[str, set[str]]] = {}
    for name, release, architecture, source, symbols in shown:
        row = (name, release, architecture)
        cells = rows.setdefault(row, {known: set() for known in SOURCES})
        cells[source].add(symbols)
    lines = [_line(TITLES), _line(["---"] * len(TITLES))]
    for row in sorted(rows, key=_order):
        lines.append(_line([*row, *map(_cell, rows[row].values())]))
    return "\n".join((INTRODUCTION, *lines, ""))


def read_page(text: str) -> set[Shown]:
    """Return what a page says was shown."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "|" in line]
    return {
        Shown(name, release, architecture, source, symbols)
        for name, release, architecture, *cells in rows[2:]
        for source, cell in zip(SOURCES, cells)
        if cell != NOT_TESTED
        for symbols in cell.split(", ")
    }


def _order(row: tuple[str, str, str]) -> tuple[object, ...]:
    """Return where a row comes: this architecture first, then the older kernel."""
    name, release, architecture = row
    version = _numbers(name.partition("-")[0])
    return architecture != "amd64", architecture, version, name, _numbers(release), row


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _cell(symbols: Collection[str]) -> str:
    known = [one for one in (*SYMBOLS, NO_SYMBOLS) if one in symbols]
    return ", ".join(known) or NOT_TESTED


def _line(words: Sequence[str]) -> str:
    return f"| {' | '.join(words)} |"
