# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands that the pages of docs/ show, and the output that they show of them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from tests.sources import ROOT

__all__ = ("DEFAULT_KERNEL", "ELIDED", "Shown", "matches", "shown_commands")

ELIDED = "…"
"""Stands on a line of its own for any number of lines."""

DEFAULT_KERNEL = "6.12"
"""Of the lab, whose output is shown unless a block names another: ```console 6.1."""

_BLOCK = re.compile(
    r"^```console *(?P<kernel>\S*)\n\$ (?P<words>[^\n]*)\n(?P<lines>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Shown:
    """A command on a page, and what it prints."""

    page: str
    words: list[str]
    lines: list[str]
    kernel: str

    @property
    def live(self) -> bool:
        """Whether it is of the running kernel: ``drgn -k``."""
        return self.words[1] == "-k"

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def shown_commands(program: str) -> list[Shown]:
    """Return the commands that start with a word, in the order of the pages."""
    return [
        Shown(
            path.name,
            words,
            found["lines"].splitlines(),
            found["kernel"] or DEFAULT_KERNEL,
        )
        for path in sorted((ROOT / "docs").glob("*.md"))
        for found in _BLOCK.finditer(path.read_text(encoding="utf-8"))
        if (words := shlex.split(found["words"]))[0] == program
    ]


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether lines are the same, but for those that were elided."""
    if not shown or not printed:
        return all(line == ELIDED for line in shown) and not (printed and not shown)
    if shown[0] == ELIDED:
        return any(matches(shown[1:], printed[at:]) for at in range(len(printed) + 1))
    return shown[0] == printed[0] and matches(shown[1:], printed[1:])
