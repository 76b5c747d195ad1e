# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Drawing
-------

Address space and blocks as SVG. Runs of cells that look the same are one part of a
path, so a drawing is small however much it shows.
"""

from itertools import groupby
from typing import Dict, List, Mapping, Sequence, Tuple

from ..model.areas import Area
from ..model.blocks import PageState
from ..model.pictures import CELLS_A_ROW, Stretch
from .html import Html, element
from .sizes import counted, size_text

__all__ = ("area_name", "block_drawing", "legend", "part_id", "stretch_drawing")

_CELL = 6
_ROW = 16
_LABEL = 160
_BLOCK_PIXELS = 512

_BLOCK_CLASSES = {
    PageState.FREE: "",
    PageState.FREED: "freed",
    PageState.USED: "used",
    PageState.MAPPED: "mapped",
    PageState.UNKNOWN: "unknown",
}


def stretch_drawing(stretch: Stretch, links: Mapping[int, str]) -> Html:
    """
    Draw a stretch, one row of cells below the other, each with its address.

    Its largest areas are named below all rows while they are pointed at or have the
    focus.

    :param links: Where more is told of areas, by their first address.
    """
    looks = [
        f"{kind}{'' if full else ' part'}" if kind else ""
        for kind, full in zip(stretch.cells, stretch.full)
    ]
    rows = [looks[at : at + CELLS_A_ROW] for at in range(0, len(looks), CELLS_A_ROW)]
    drawn = [_row(stretch, at, row) for at, row in enumerate(rows)]
    below = len(rows) * _ROW
    drawn += [_named(stretch, area, below, links) for area in stretch.named]
    width = _LABEL + CELLS_A_ROW * _CELL
    return element(
        "svg",
        *drawn,
        viewBox=f"0 0 {width} {below + _ROW + 4}",
        width=width,
        role="group",
        aria_label=f"{counted(stretch.areas, 'area')} from {stretch.start:#x} on",
    )


def block_drawing(states: Sequence[PageState]) -> Html:
    """Draw the pages of a block as a bar."""
    width = _BLOCK_PIXELS / max(len(states), 1)
    looks = [_BLOCK_CLASSES[state] for state in states]
    return element(
        "svg",
        *_paths(looks, width, 0, 0, 12),
        viewBox=f"0 0 {_BLOCK_PIXELS} 12",
        width=_BLOCK_PIXELS,
        role="img",
        aria_label=f"{looks.count('used')} of {len(looks)} pages used",
        _class="bar",
    )


def legend(classes: Sequence[Tuple[str, str]]) -> Html:
    """Explain colours: a class and what it stands for."""
    return element(
        "p",
        *(
            element("span", element("i", _class=look), f" {text} ")
            for look, text in classes
        ),
        _class="legend",
    )


def part_id(part: Stretch) -> str:
    """Return what a link to a part of a stretch names."""
    return f"p-{part.start:x}"


def _row(stretch: Stretch, at: int, looks: Sequence[str]) -> Html:
    start = stretch.start + at * CELLS_A_ROW * stretch.cell_bytes
    size = size_text(len(looks) * stretch.cell_bytes)
    label = element("text", f"{start:#x}", x=0, y=at * _ROW + _ROW - 4)
    for part in stretch.parts:
        if part.start == start:
            label = element("a", label, href=f"#{part_id(part)}")
    title = element("title", f"{size} from {start:#x} on: {_summary(looks)}")
    return element(
        "g", title, label, *_paths(looks, _CELL, _LABEL, at * _ROW, _ROW - 1)
    )


def _named(stretch: Stretch, area: Area, below: int, links: Mapping[int, str]) -> Html:
    """Return what lies over an area, and names it."""
    count, cell = len(stretch.cells), stretch.cell_bytes
    first = max(area.start - stretch.start, 0) // cell
    last = min(-(-(area.end - stretch.start) // cell), count)
    boxes = []
    for row in range(first // CELLS_A_ROW, -(-last // CELLS_A_ROW)):
        left = max(first - row * CELLS_A_ROW, 0)
        right = min(last - row * CELLS_A_ROW, CELLS_A_ROW)
        x, wide = _LABEL + left * _CELL, (right - left) * _CELL
        boxes.append(f"M{x} {row * _ROW}h{wide}v{_ROW - 1}h-{wide}z")
    said = f"{area_name(area)}, {size_text(area.size)} at {area.start:#x}"
    inside = (
        element("title", said),
        element("path", _class="area", d=Html("".join(boxes))),
        element("text", said, _class="name", x=0, y=below + _ROW - 2),
    )
    if area.start in links:
        return element("a", *inside, href=f"#{links[area.start]}", _class="named")
    return element("g", *inside, tabindex=0, _class="named")


def area_name(area: Area) -> str:
    """Return what an area is called: by its caller, if it has one, and its kinds."""
    return " ".join((area.caller or "", *area.kinds)).strip() or area.state.label


def _summary(looks: Sequence[str]) -> str:
    """Name what a row holds, with its part of the cells."""
    kinds = [look.split()[0] for look in looks if look]
    counts = sorted(((kinds.count(kind), kind) for kind in set(kinds)), reverse=True)
    return ", ".join(f"{kind} {count / len(looks):.0%}" for count, kind in counts)


def _paths(
    looks: Sequence[str], width: float, left: float, top: int, height: int
) -> List[Html]:
    """Return a path for each look, of rectangles where it is."""
    parts: Dict[str, List[str]] = {}
    at = 0
    for look, run in groupby(looks):
        count = len(list(run))
        if look:
            x, wide = f"{left + at * width:g}", f"{count * width:g}"
            parts.setdefault(look, []).append(f"M{x} {top}h{wide}v{height}h-{wide}z")
        at += count
    return [
        element("path", _class=look, d=Html("".join(path)))
        for look, path in parts.items()
    ]
