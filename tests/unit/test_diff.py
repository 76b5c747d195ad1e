# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What changed
------------

Two moments made by hand, and the command from its files to its exit status, in a
Python without drgn.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drgn_vmap.analyses.diff import compare
from drgn_vmap.analyses.saved import areas_from_json
from drgn_vmap.errors import UsageError
from drgn_vmap.model.areas import Area, State
from drgn_vmap.render.records import area_json, json_document
from tests.fakes.snapshots import BASE, PAGE
from tests.sources import ROOT

LEAK = "leak_some+0x1/0x2 [leaky]"
KERNEL = {"release": "6.12-test", "layout": "E", "live": True, "symbols": "dwarf"}


def area(page: int, count: int, caller: "str | None" = LEAK, **more: Any) -> Area:
    """Return a busy area of so many pages, one of which guards it."""
    fields: Dict[str, Any] = {"state": State.BUSY, "kinds": ("vmalloc",), **more}
    start = BASE + page * PAGE
    fields.setdefault("pages", count - 1)
    return Area(start=start, end=start + count * PAGE, caller=caller, **fields)


RAM = area(90, 8, None, kinds=("vm_map_ram",), pages=None)
OLD = [
    area(0, 2, "stays+0x1/0x2"),
    area(10, 5, "goes+0x1/0x2"),
    area(20, 9, "shrinks+0x1/0x2", pages=8),
    area(30, 3),
    RAM,
]
NEW = [
    area(0, 2, "stays+0x1/0x2"),
    area(20, 9, "shrinks+0x1/0x2", pages=6),
    area(30, 3),
    area(40, 3),
    area(50, 7),
    RAM,
    area(70, 4, "freed+0x1/0x2", state=State.LAZY),
]


def document(areas: List[Area]) -> str:
    """Return what ``ls --json`` prints."""
    rows = [area_json(area) for area in areas]
    return json_document("ls", KERNEL, [], areas=rows)


def test_added_removed_grown() -> None:
    """The largest come first; what was freed is no new area in use."""
    found = compare(OLD, NEW)
    assert [area.start for area in found.added] == [
        BASE + 50 * PAGE,
        BASE + 40 * PAGE,
    ]
    assert [area.caller for area in found.removed] == ["goes+0x1/0x2"]
    assert [(old.pages, new.pages) for old, new in found.grown] == [(8, 6)]
    assert found.common == 4


def test_by_caller() -> None:
    """The leak holds two areas, ten pages of addresses and eight of memory more."""
    rows = compare(OLD, NEW).by_caller
    assert [(row.caller, row.areas, row.bytes, row.pages) for row in rows] == [
        (LEAK, 2, 10 * PAGE, 8),
        ("shrinks+0x1/0x2", 0, 0, -2),
        ("goes+0x1/0x2", -1, -5 * PAGE, -4),
    ]


def test_an_address_with_another_caller_is_another_area() -> None:
    """A place that was freed and given to somebody else is both, gone and new."""
    found = compare([area(0, 2, "one+0x0/0x1")], [area(0, 2, "two+0x0/0x1")])
    assert (len(found.added), len(found.removed), found.common) == (1, 1, 0)


def test_nothing_changed() -> None:
    """The order of areas is no difference."""
    assert not compare(OLD, OLD[::-1])


def vmap_diff(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the script with plain Python; an import of drgn would fail."""
    code = (
        "import runpy, sys; sys.modules['drgn'] = None; "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    script = str(ROOT / "scripts" / "vmap_diff.py")
    argv = f"import sys; sys.argv = {[script, *arguments]!r}; "
    code = argv + code.replace("sys.argv[1]", repr(script))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )


@pytest.fixture
def files(tmp_path: Path) -> List[str]:
    """Return the files of the two moments."""
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path, areas in zip(paths, (OLD, NEW)):
        path.write_text(document(areas), encoding="utf-8")
    return [str(path) for path in paths]


def test_the_command(files: List[str]) -> None:
    """It names the leak first, and exits with 1."""
    done = vmap_diff(*files)
    assert (done.returncode, done.stderr) == (1, "")
    headings, first = done.stdout.splitlines()[:2]
    assert headings.split() == ["AREAS", "BYTES", "PAGES", "CALLER"]
    assert first.split() == ["+2", "+40960", "+8", *LEAK.split()]


def test_the_command_without_a_difference(files: List[str]) -> None:
    """The same file twice: exit status 0."""
    done = vmap_diff(files[0], files[0])
    assert done.returncode == 0
    assert done.stdout == "no difference: the same 5 areas in use\n"


def test_json(files: List[str]) -> None:
    """The document has the fields that the interface names."""
    done = vmap_diff("--json", *files)
    found = json.loads(done.stdout)
    assert (found["schema"], found["command"], found["problems"]) == (1, "diff", [])
    assert found["kernel"] == found["old_kernel"] == KERNEL
    assert [len(found[key]) for key in ("added", "removed", "grown")] == [2, 1, 1]
    assert (found["grown"][0]["old_pages"], found["grown"][0]["pages"]) == (8, 6)
    assert found["by_caller"][0] == {
        "caller": LEAK,
        "areas": 2,
        "bytes": 40960,
        "pages": 8,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"command": "top", "schema": 1}',
        document([]).replace('"schema": 1', '"schema": 2'),
        document([]).replace('"areas": []', '"areas": 7'),
        document(OLD).replace(f'"start": "{OLD[0].start:#x}"', '"start": 5'),
        document(OLD).replace('"state": "busy"', '"state": "bust"'),
        document(OLD).replace('"pages": 4', '"pages": "4"'),
        document(OLD).replace('"pages": 4', '"pages": -4'),
        document(OLD).replace('"pages": 4', f'"pages": {10**400}'),
        document(OLD).replace('"pages": 4', f'"pages": {"9" * 5000}'),
        document(OLD).replace(f'"end": "{OLD[0].end:#x}"', f'"end": "0x{"f" * 400}"'),
        document(OLD).replace(f'"start": "{OLD[0].start:#x}"', '"start": "-0x1"'),
        document(OLD).replace(f'"start": "{OLD[0].start:#x}"', '"start": "0x1_0"'),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, files: List[str], text: str) -> None:
    """One line on standard error names the file, nothing is on standard output."""
    wrong = tmp_path / "wrong"
    wrong.write_text(text, encoding="utf-8")
    done = vmap_diff(files[0], str(wrong))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vmap diff: ") and done.stderr.count("\n") == 1
    assert str(wrong) in done.stderr


@pytest.mark.parametrize("start", [b"\x7fELF", b"KDUMP   "])
def test_a_damaged_vmcore_is_named(tmp_path: Path, start: bytes) -> None:
    """What begins as a vmcore does, and is none: one line, exit status 2."""
    path = tmp_path / "vmcore"
    path.write_bytes(start + bytes(5000))
    script = str(ROOT / "scripts" / "vmap_diff.py")
    command = [sys.executable, script, str(path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert str(path) in done.stderr and "give a vmcore" in done.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No traceback, exit status 2."""
    done = vmap_diff(str(tmp_path / "none"), str(tmp_path / "none"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_areas_come_back_as_they_were() -> None:
    """Every field survives the way through JSON."""
    full = Area(
        start=BASE,
        end=BASE + PAGE,
        state=State.BUSY,
        kinds=("vmalloc", "user"),
        vmap_node=1,
        va_flags=0x100,
        vm_flags=0xA,
        caller=LEAK,
        caller_addr=0xFFFFFFFFC0000000,
        pages=3,
        page_order=0,
        phys=0xFED00000,
        numa={0: 1, 1: 2},
        requested_size=12288,
    )
    read = areas_from_json("file", document([full, *OLD]))
    assert read.areas == (full, *OLD)
    assert read.kernel == KERNEL


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=3,
)
_ROW = st.fixed_dictionaries(
    {
        "start": _JSON | st.sampled_from(["0x1", "0x2"]),
        "end": _JSON | st.sampled_from(["0x1", "0x2"]),
        "state": st.just("busy") | _JSON,
        "kinds": st.just(["user"]) | _JSON,
    },
    optional={key: _JSON for key in ("numa", "pages", "caller", "phys")},
)


@settings(deadline=None)
@given(st.lists(_ROW | _JSON, max_size=3))
def test_any_areas_are_read_or_refused(rows: List[Any]) -> None:
    """Whatever stands where the areas should: no other error than the one promised."""
    text = json.dumps({"schema": 1, "command": "ls", "kernel": {}, "areas": rows})
    try:
        read = areas_from_json("file", text)
    except UsageError as e:
        assert "file" in str(e)
    else:
        assert len(read.areas) == len(rows)
