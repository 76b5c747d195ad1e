# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How owners are found among areas, summed up and shown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from drgn_vmap import commands
from drgn_vmap._numpy import np
from drgn_vmap.analyses.describe import describe
from drgn_vmap.analyses.top import reconcile, sum_areas
from drgn_vmap.kernel.vmalloc.owners.busy import BusyAreas
from drgn_vmap.kernel.vmalloc.owners.variables import image_data
from drgn_vmap.model.areas import Snapshot, State
from drgn_vmap.model.owners import Owner, OwnerKind
from drgn_vmap.render.openmetrics import openmetrics
from drgn_vmap.render.records import (
    area_csv,
    area_document,
    area_json,
    area_table,
    json_areas,
    table_areas,
)
from tests.fakes.snapshots import BASE, PAGE, area, snapshot_of

BASH = Owner(OwnerKind.TASK, "bash", 7, "kernel stack", "task_struct.stack")
OTHER = Owner(OwnerKind.TASK, "bash", 9, "kernel stack", "task_struct.stack")
SMALL = Owner(OwnerKind.BPF_PROGRAM, "small", 1, "socket_filter")
LARGE = Owner(OwnerKind.BPF_PROGRAM, "large", 2)
MANY = tuple(Owner(OwnerKind.BPF_PROGRAM, "one", at) for at in range(9))
EVIL = Owner(OwnerKind.TASK, "=\x1b[31mcmd", 3)


def snapshot() -> Snapshot:
    return snapshot_of(
        [
            area(0, 5, flags=2, owners=1),
            area(8, 5, flags=2, owners=2),
            area(16, 9, flags=2, owners=3),
            area(32, 17, flags=2, owners=4),
            area(64, 3, flags=2),
            area(80, 2, State.LAZY, owners=1),
        ],
        owners=((BASH,), (OTHER,), (SMALL, LARGE), MANY),
    )


def test_areas_are_found_by_what_points_at_them() -> None:
    """By any address in them, by their start, by their vm_struct; lazy ones never."""
    busy = BusyAreas(snapshot())
    at = np.array([BASE, BASE + 1, BASE + 5 * PAGE, BASE + 80 * PAGE, 0], np.uint64)
    assert busy.holding(at).tolist() == [0, 0, -1, -1, -1]
    assert busy.starting(at).tolist() == [0, -1, -1, -1, -1]
    vms = np.array([0xFFFF888000000008, 0, 5], np.uint64)
    assert busy.of_vm(vms).tolist() == [1, -1, -1]
    assert [*busy.pairs(at)] == [(0, 0), (1, 0)]


def test_no_areas_have_no_owners() -> None:
    """Whatever points there."""
    busy = BusyAreas(snapshot_of([]))
    at = np.array([BASE], np.uint64)
    assert [*busy.holding(at), *busy.starting(at), *busy.of_vm(at)] == [-1, -1, -1]


def test_sums() -> None:
    """Tasks of a name are one, several owners are named, and many are counted."""
    top = sum_areas(snapshot(), "owner")
    assert {row.key: (row.areas, row.bytes // PAGE) for row in top.rows} == {
        "task bash": (2, 10),
        "bpf-program 1 small, bpf-program 2 large": (1, 9),
        "9 of kind bpf-program": (1, 17),
        "(no owner known)": (1, 3),
    }
    assert top.total.bytes == sum(row.bytes for row in top.rows)


def test_data_of_the_image_ends_where_the_kernel_frees_it() -> None:
    """On x86 .bss has padding behind it, which anybody gets; elsewhere it has not."""
    symbols = {"_sdata": 0x30, "_edata": 0x40, "__bss_start": 0x50, "__bss_stop": 0x90}
    assert [*image_data(symbols.get)] == [(0x30, 0x40), (0x50, 0x90)]
    symbols["__start_bss_decrypted_unused"] = 0x70
    assert [*image_data(symbols.get)] == [(0x30, 0x40), (0x50, 0x70)]


def test_openmetrics() -> None:
    """Each owner is a label, and any name that a task gives itself is understood."""
    hostile = ("a\x1b", r"a\x1b", 'b"\n# EOF', "\ud800")
    tasks = [(Owner(OwnerKind.TASK, name, at),) for at, name in enumerate(hostile)]
    rows = [area(8 * at, 5, owners=1 + at) for at in range(len(tasks))]
    for found, sums in (
        (snapshot(), {"task bash": 2, "9 of kind bpf-program": 1}),
        (snapshot_of(rows, owners=tasks), {r"task a\x1b": 2}),
    ):
        top = sum_areas(found, "owner")
        text = openmetrics(top, reconcile(found, None), found.kernel)
        families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        [areas] = [one for one in families if one.name == "vmap_owner_areas"]
        told = {one.labels["owner"]: one.value for one in areas.samples}
        assert sum(told.values()) == top.total.areas
        assert sums.items() <= told.items()


def test_json() -> None:
    """The first owner by itself; all of them only if there are several."""
    first, _, shared, _, nobody, _ = map(area_json, describe(snapshot()))
    assert first["owner"] == {
        "kind": "task",
        "name": "bash",
        "id": 7,
        "detail": "kernel stack",
        "proof": "task_struct.stack",
    }
    assert "owners" not in first and "owner" not in nobody
    assert [one["id"] for one in shared["owners"]] == [1, 2]
    assert shared["owner"] == shared["owners"][0]
    assert json.dumps(shared)


def table(
    found: Snapshot, width: Optional[int] = None, with_owners: bool = False
) -> str:
    rows = np.arange(len(found.areas))
    return "".join(table_areas(found, rows, describe, width, with_owners))


def test_csv_and_table() -> None:
    """What a target says is escaped, and is no formula."""
    found = snapshot_of([area(0, 5, owners=1)], owners=((EVIL,),))
    areas = [*describe(found)]
    [row] = csv.DictReader(io.StringIO(area_csv(areas, with_owners=True)))
    assert row["owner"] == "task 3 =\\x1b[31mcmd"
    text = table(found, with_owners=True)
    assert "OWNER" in text and "task 3 =\\x1b[31mcmd" in text
    assert "OWNER" not in table(found)


def test_a_narrow_terminal() -> None:
    """An owner can be read in 80 columns, beside a caller without its offset."""
    callers = {
        1: "bpf_prog_alloc_no_stats+0x3f/0x240",
        2: "map_vmalloc+0x19/0x30 [lab]",
    }
    rows = [area(0, 5, flags=2, caller=1, owners=1), area(8, 5, caller=2, owners=1)]
    found = snapshot_of(rows, callers, owners=((LARGE,),))
    first, second = table(found, 80, with_owners=True).splitlines()[1:3]
    assert "bpf_prog_alloc_no_stats  " in first and first.endswith(
        "bpf-program 2 large"
    )
    assert "map_vmalloc [lab] " in second
    assert callers[1] in table(found, with_owners=True)
    assert callers[1] in table(found, 80)


@pytest.mark.parametrize("width", [None, 120, 80, 60, 40, 10])
def test_a_table_in_bulk(width: Optional[int]) -> None:
    """Areas that are told of at once are laid out as one by one."""
    rows = [
        area(8 * at, 5 + at % 3, State(at % 2), flags=2, caller=at % 2)
        for at in range(300)
    ]
    found = snapshot_of(rows, {1: "a_caller+0x3f/0x240"})
    assert table(found, width) == area_table(describe(found), width)


def test_what_grew_by_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files that have owners are also compared by these."""
    whole = snapshot()
    fewer = replace(whole, areas=whole.areas.take(np.array([0, 2, 3, 4])))
    files = []
    for name, moment in (("old", fewer), ("new", whole)):
        rows = np.arange(len(moment.areas))
        texts = json_areas(moment, rows, describe)
        files.append(tmp_path / name)
        files[-1].write_text("".join(area_document(moment.kernel, (), texts)))
    assert commands.run("diff", None, ["--json", *map(str, files)]) == 1
    [grown] = json.loads(capsys.readouterr().out)["by_owner"]
    assert grown == {"owner": "task bash", "areas": 1, "bytes": 5 * PAGE, "pages": 0}
    assert commands.run("diff", None, [*map(str, files)]) == 1
    assert "task bash" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        "ls --owners --from -",
        "top --by owner --from -",
        "gaps --space module --from -",
    ],
)
def test_what_does_not_go_together(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused in a line, before anything is read."""
    verb, *options = words.split()
    assert commands.run(verb, None, options) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and ": leave out --" in err
