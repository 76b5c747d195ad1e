# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/support.md is what its generator writes, of nothing but what tests recorded."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab.support import (
    NOT_TESTED,
    PAGE,
    PROPERTY,
    SOURCES,
    Shown,
    page,
    read_page,
    read_records,
)

ELF = Shown("6.1", "6.1.0-9-amd64", "amd64", "ELF", "DWARF")
BTF = ELF._replace(symbols="BTF")
FOREIGN = Shown("6.1-s390x", "6.1.0-9-s390x", "s390x", "slice", "DWARF")


def record(path: Path, *cases: tuple[Shown, str]) -> Path:
    """Write a record as pytest does: of each test, what it shows and how it ended."""
    texts = []
    for shown, end in cases:
        value = json.dumps(shown).replace('"', "&quot;")
        properties = f'<property name="{PROPERTY}" value="{value}" />'
        texts.append(f"<testcase><properties>{properties}</properties>{end}</testcase>")
    path.write_text(f"<testsuites><testsuite>{''.join(texts)}</testsuite></testsuites>")
    return path


def test_page_is_what_its_generator_writes() -> None:
    """Whatever is changed, the page is written anew; it says a good deal."""
    text = PAGE.read_text(encoding="utf-8")
    shown = read_page(text)
    assert page(shown) == text
    assert {one.source for one in shown} == {*SOURCES}
    assert len(shown) > 30


def test_records_of_several_runs(tmp_path: Path) -> None:
    """What passed in any of them counts, each kernel in a row, cell by cell."""
    first = record(tmp_path / "a", (ELF, ""), (ELF, "<system-out/>"))
    second = record(tmp_path / "b", (FOREIGN, ""), (BTF, ""))
    shown = read_records([first, second])
    assert shown == {ELF, BTF, FOREIGN}
    rows = page(shown).splitlines()[-2:]
    no = NOT_TESTED
    assert rows == [
        f"| 6.1 | 6.1.0-9-amd64 | amd64 | {no} | DWARF, BTF | {no} | {no} | {no} | {no} |",
        f"| 6.1-s390x | 6.1.0-9-s390x | s390x | {no} | {no} | {no} | {no} | DWARF | {no} |",
    ]
    assert read_page(page(shown)) == shown


def test_what_failed_is_not_tested(tmp_path: Path) -> None:
    """One test that failed, broke or was skipped outweighs those that passed."""
    for end in ("<failure/>", "<error/>", "<skipped/>"):
        path = record(tmp_path / "record", (ELF, ""), (ELF, end), (BTF, ""))
        assert read_records([path]) == {BTF}


def test_order() -> None:
    """This architecture comes first, and older kernels before newer ones."""
    names = ["5.10", "6.1", "6.1-fixed", "6.12", "7.3"]
    shown = {ELF._replace(kernel=name) for name in names}
    lines = page({*shown, FOREIGN}).splitlines()[-6:]
    assert [line.split(" ")[1] for line in lines] == [*names, "6.1-s390x"]
