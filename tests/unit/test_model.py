# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the records that rooms hand each other say of themselves."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from drgn_vmap.model.areas import Problem, ProblemKind
from drgn_vmap.render.records import document
from tests.fakes.blocks import FakeBlock, blocks_of
from tests.fakes.snapshots import area, snapshot_of

PROBLEM = Problem(ProblemKind.NOT_UNDERSTOOD, "where", "detail")


def test_a_kind_of_problem_is_its_word() -> None:
    """It is printed, compared and written as JSON like the word that it stands for."""
    assert f"{PROBLEM.what}" == str(PROBLEM.what) == PROBLEM.what == "not understood"
    [written] = json.loads(document("ls", None, [PROBLEM]))["problems"]
    assert written == {"what": "not understood", "where": "where", "detail": "detail"}


@pytest.mark.parametrize("count", [0, 1000])
def test_many_areas_have_a_short_name(count: int) -> None:
    """Who types the name of a snapshot is not shown a page of numbers."""
    snapshot = snapshot_of([area(2 * at, 1) for at in range(count)], release="6.1\x1b")
    snapshot = replace(snapshot, problems=(PROBLEM,))
    expected = rf"<Snapshot of '6.1\x1b': {count} areas, 1 problems>"
    assert repr(snapshot) == expected
    assert repr(snapshot.areas) == f"<AreaTable of {count} areas>"


def test_many_blocks_have_a_short_name() -> None:
    """Nor is who types that of blocks."""
    many = blocks_of(1000 * [FakeBlock(free=0)])
    assert repr(many).endswith(": 1000 blocks, 0 problems>")
    assert repr(many.table) == "<BlockTable of 1000 blocks>"
