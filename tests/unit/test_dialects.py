# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Texts as people have them
-------------------------

The same areas in all dialects, of several eras and both widths, give the lines that the
kernel printed; what was lost is named; and a line that lost a character or its end is
never taken for a whole one that says other numbers.
"""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from drgn_vmap.analyses.saved_text import areas_from_text
from drgn_vmap.analyses.top import sum_areas
from drgn_vmap.commands.texts import Text, saved_text
from drgn_vmap.errors import UsageError
from drgn_vmap.model.areas import ProblemKind
from drgn_vmap.model.saved import SavedText
from tests.fakes.dialects import (
    DIALECTS,
    ERAS,
    LOSSY,
    PAGE,
    Era,
    Truth,
    areas_of,
    printed,
)

BITS = (64, 32)
eras = pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
widths = pytest.mark.parametrize("bits", BITS)


def lines_of(saved: SavedText) -> str:
    """Return what ``ls`` prints."""
    return "".join(f"{line}\n" for line in saved.lines)


def failures(saved: SavedText) -> list[str]:
    """Return what is missing or wrong."""
    return [str(one) for one in saved.snapshot.problems if one.is_failure]


@eras
@widths
def test_dialects(era: Era, bits: int) -> None:
    """In each, every line comes back as the kernel printed it."""
    text = printed(era, bits, areas_of(era, bits, 60, 1))
    for name, dialect in DIALECTS.items():
        saved = saved_text(Text("file", dialect(text).encode(), None))
        assert failures(saved) == [], name
        assert lines_of(saved) == text, name
        assert saved.count == 1, name


@eras
@widths
def test_sums(era: Era, bits: int) -> None:
    """The areas, bytes and pages by each key are the true ones."""
    truth = areas_of(era, bits, 60, 2)
    snapshot = areas_from_text("file", printed(era, bits, truth)).snapshot
    busy = [area for area in truth if area.plain != "unpurged vm_area"]
    for by, key in (("caller", caller_of), ("module", module_of), ("kind", kind_of)):
        expected: dict[str, tuple[int, int, int]] = {}
        for area in busy:
            areas, size, pages = expected.get(key(area), (0, 0, 0))
            expected[key(area)] = (areas + 1, size + area.size, pages + area.pages)
        rows = sum_areas(snapshot, by).rows
        assert {row.key: (row.areas, row.bytes, row.pages) for row in rows} == expected
    if era.numa:
        pages_on: Counter[str] = Counter()
        for area in busy:
            pages_on.update({str(node): count for node, count in area.numa})
        found = {row.key: row for row in sum_areas(snapshot, "node").rows}
        for node, count in pages_on.items():
            assert (found[node].pages, found[node].bytes) == (count, count * PAGE)


def caller_of(area: Truth) -> str:
    """Return what ``--by caller`` sums it up by."""
    return area.key


def module_of(area: Truth) -> str:
    """Return what ``--by module`` sums it up by."""
    if "[" in area.key:
        return area.key.split("[")[1].rstrip("]")
    return "(kernel)" if "+" in area.key else area.key


def kind_of(area: Truth) -> str:
    """Return what ``--by kind`` sums it up by."""
    order = ("vmalloc", "vmap", "ioremap", "user", "dma-coherent", "sparse")
    words = [word for word in order if word in area.labels]
    words += [word for word in area.labels if word not in (*order, "vpages")]
    return " ".join(words) or area.plain


@eras
@widths
def test_what_was_lost_is_named(era: Era, bits: int) -> None:
    """Of a text that is cut, no line has lost a part, and all that did are counted."""
    text = printed(era, bits, areas_of(era, bits, 60, 1))
    for name, dialect in LOSSY.items():
        cut = dialect(text)
        try:
            saved = areas_from_text("file", cut)
        except UsageError:
            continue
        assert set(saved.lines) <= set(text.splitlines()), name
        # Of the first line, too little may be left to tell what it was.
        assert len(saved.lines) + saved.left_out >= len(cut.splitlines()) - 1, name


NUMBERS = re.compile(r" (?:\d+|pages=\d+|N\d+=\d+)(?= |$)")


def test_mutations() -> None:
    """A character dropped or changed, or a cut: none says other numbers unnoticed."""
    rng = random.Random("mutations")
    texts = [
        printed(era, bits, areas_of(era, bits, 25, seed)).splitlines()
        for era in ERAS
        for bits in BITS
        for seed in (1, 2)
    ]
    for _ in range(1500):
        lines = rng.choice(texts)
        at = rng.randrange(len(lines))
        new = mutated(lines[at], rng)
        others = Counter(lines[:at] + lines[at + 1 :])
        whole = "".join(f"{line}\n" for line in [*lines[:at], new, *lines[at + 1 :]])
        saved = areas_from_text("file", whole)
        assert not others - Counter(saved.lines), new
        for taken in Counter(saved.lines) - others:
            named = any(
                one.where == f"file, line {at + 1}" for one in saved.snapshot.problems
            )
            assert named or NUMBERS.findall(taken) == NUMBERS.findall(lines[at]), new


def mutated(line: str, rng: random.Random) -> str:
    """Return a line with a character dropped or changed, or cut."""
    at = rng.randrange(len(line))
    sign = rng.choice("0123456789abcdefxzN= +-/[]_.")
    ways = (line[:at] + line[at + 1 :], line[:at] + sign + line[at + 1 :], line[:at])
    return rng.choice(ways)


def test_what_was_mended_is_said_once() -> None:
    """It is a problem of its own kind, and no failure."""
    text = printed(ERAS[0], 64, areas_of(ERAS[0], 64, 20, 1))
    saved = areas_from_text("file", DIALECTS["quoted"](text))
    [problem] = saved.snapshot.problems
    assert (problem.what, problem.is_failure) == (ProblemKind.MENDED, False)
    assert "something before it (20)" in problem.detail
    assert areas_from_text("file", text).snapshot.problems == ()
