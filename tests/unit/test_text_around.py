# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What stands around lines
------------------------

That lines are read in bulk, whatever stands before or behind them, makes no difference to
what is said of them: it is what mending each by itself says.
"""

from __future__ import annotations

import time
from dataclasses import fields

import pytest

from drgn_vmap._numpy import np
from drgn_vmap.analyses import saved_text
from drgn_vmap.analyses.saved_text import areas_from_text, texts_in
from drgn_vmap.analyses.text_lines import Lines
from drgn_vmap.errors import UsageError
from drgn_vmap.model.saved import SavedText
from tests.fakes.mixtures import mixture
from tests.fakes.vmallocinfo import RAW

MIXTURES = 600


def said(text: str) -> object:
    """Return all that is known of a text, or why it is refused."""
    try:
        return [said_of(saved) for saved in texts_in("file", text)]
    except UsageError as e:
        return str(e)


def said_of(saved: SavedText) -> list[object]:
    """Return all that is known of a snapshot; callers by their names, in any order."""
    snapshot = saved.snapshot
    areas = [
        getattr(snapshot.areas, one.name).tolist()
        for one in fields(snapshot.areas)
        if one.name != "caller"
    ]
    callers = [snapshot.callers.get(one) for one in snapshot.areas.caller.tolist()]
    where = (saved.pointers, saved.title, saved.number, saved.count, saved.left_out)
    about = (snapshot.problems, snapshot.kernel, snapshot.labels)
    return [list(saved.lines), areas, callers, where, about]


def no_lines(lines: Lines) -> Lines:
    """Return none of the lines, so that all are mended."""
    return lines.take(np.zeros(0, np.intp))


def test_mixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out, taken and said is the same as of lines that are mended."""
    texts = [mixture(seed) for seed in range(MIXTURES)]
    in_bulk = [said(text) for text in texts]
    monkeypatch.setattr(saved_text, "_without_faulty", no_lines)
    for seed, (text, found) in enumerate(zip(texts, in_bulk)):
        assert found == said(text), seed


LINE = RAW.splitlines()[0]
ADDRESSES = LINE.split()[0]


@pytest.mark.parametrize(
    "text",
    [
        f"{'[' * 3_000_000} {LINE}",
        f"{'[ ' * 1_000_000} {LINE}",
        f"{'[a ' * 1_000_000} {LINE}",
        f"{('A' + 50 * ' ') * 60_000}1{LINE}",
        f"{'! ' * 1_000_000}1 {LINE}",
        f"{'-0x' * 1_000_000} {LINE}",
        f"{ADDRESSES * 80_000} {LINE}",
        LINE + "\r" * 3_000_000,
        "\r\n" * 100_000,
        "> -0x\n" * 100_000,
        f"> {ADDRESSES}\n" * 20_000,
    ],
    ids=lambda text: f"{text[:6]!r}",
)
def test_nothing_takes_longer_than_it_is(text: str) -> None:
    """Neither a long line nor many short ones take as long as they are times another."""
    started = time.process_time()
    saved = areas_from_text("file", f"{text}\n{RAW}")
    assert time.process_time() - started < 3
    assert len(saved.lines) >= len(RAW.splitlines())
