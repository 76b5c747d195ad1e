# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Overview
--------

One screen about a kernel's vmalloc state.
"""

import textwrap
from typing import Iterator, Optional, Sequence

from ..model.areas import LAYOUTS, State
from ..model.pictures import Overview
from .escape import printable
from .sizes import counted, size_text
from .top import verdict_text

__all__ = ("overview_text",)

_CALLERS = 5
_COLUMNS = 80
_SHORTEST = 20
"""Of a caller there is to be seen that much, however narrow the terminal is."""


def overview_text(
    found: Overview,
    warnings: Sequence[str],
    verbs: Sequence[str],
    typed: str,
    width: Optional[int] = None,
) -> str:
    """
    Return kernel, layout, totals, largest callers and warnings.

    :param verbs: What can be asked next.
    :param typed: What is typed before them.
    :param width: Of the terminal.
    """
    kernel, gaps = found.snapshot.kernel, found.gaps
    source = "live" if kernel.live else "vmcore"
    states = ", ".join(
        f"{size_text(gaps.bytes[state])} {state.label}"
        for state in State
        if gaps.bytes[state]
    )
    total, blocks = found.top.total, found.blocks
    lines = [
        f"kernel         {printable(kernel.release)}, {source}, types from "
        f"{kernel.symbols}",
        f"               layout {kernel.layout}: {LAYOUTS[kernel.layout]}",
        f"vmalloc space  {gaps.space.start:#x}, {size_text(gaps.total)}",
        f"               {states}",
        f"               largest gap {size_text(gaps.largest.size if gaps.largest else 0)}",
        f"areas          {total.areas}, {size_text(total.bytes)} of addresses, "
        f"{total.pages} pages",
        f"blocks         {blocks.blocks}, {blocks.pages} pages, "
        f"{blocks.stranded_pages} of them stranded",
        f"pages          {verdict_text(found.pages, kernel.live)}".rstrip(),
        "",
        *_callers(found, min(width or _COLUMNS, _COLUMNS)),
        "",
        *[f"warning        {text}" for text in warnings or ("none",)],
        "",
        _verbs(verbs, typed, min(width or _COLUMNS, _COLUMNS)),
    ]
    return "".join(f"{line}\n" for line in lines)


def _verbs(verbs: Sequence[str], typed: str, width: int) -> str:
    return textwrap.fill(
        f"{' '.join(verbs)}: {typed} help VERB explains one",
        width,
        initial_indent="verbs          ",
        subsequent_indent="               ",
        break_on_hyphens=False,
    )


def _callers(found: Overview, width: int) -> Iterator[str]:
    for row in found.top.rows[:_CALLERS]:
        held = f"{counted(row.areas, 'area'):>14} {size_text(row.bytes):>10}"
        line = f"{held} {found.top.share(row):6.1%}  "
        yield line + _cut(printable(row.key), max(width - len(line), _SHORTEST))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
