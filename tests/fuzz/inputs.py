# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What is tried: damage, and what is run on it. An input is all that its trial depends on,
so its file, or its text in a test, is enough to try it again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Union

__all__ = ("Cut", "Edit", "Input", "Lose", "Note", "Write", "load", "save")


@dataclass(frozen=True)
class Write:
    """Other bytes at an offset of the vmcore's file."""

    offset: int
    hex: str
    where: str
    """What is there, for people."""


@dataclass(frozen=True)
class Lose:
    """A page that is not in the vmcore."""

    frame: int


@dataclass(frozen=True)
class Cut:
    """The file ends early."""

    size: int


@dataclass(frozen=True)
class Note:
    """Another VMCOREINFO."""

    hex: str


Edit = Union[Write, Lose, Cut, Note]


@dataclass(frozen=True)
class Input:
    """
    One trial.

    :param name: What its file is called.
    :param kind: Of damage.
    :param sample: Whose sample is looked at; none if it is empty.
    :param runs: Verbs with their arguments, one after another on one program.
    :param edits: What is wrong with the sample.
    :param fresh: Whether to open the vmcore as a file, types and all. Else types and
        names are known from before the damage, which takes a tenth of the time.
    :param files: Files in the folder that verbs run in: hexadecimal, by name.
    """

    name: str
    kind: str
    sample: str
    runs: tuple[tuple[str, ...], ...]
    edits: tuple[Edit, ...] = ()
    fresh: bool = False
    files: tuple[tuple[str, str], ...] = ()


_EDITS = {cls.__name__: cls for cls in (Write, Lose, Cut, Note)}


def save(input_: Input, path: Path, **remarks: object) -> None:
    """Write an input to a file, and what else there is to say of it."""
    document = asdict(input_)
    document["edits"] = [[type(one).__name__, asdict(one)] for one in input_.edits]
    text = json.dumps({**remarks, "input": document}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> Input:
    """Read an input from a file."""
    document = json.loads(path.read_text(encoding="utf-8"))["input"]
    document["edits"] = tuple(_EDITS[name](**one) for name, one in document["edits"])
    document["runs"] = tuple(map(tuple, document["runs"]))
    document["files"] = tuple(map(tuple, document["files"]))
    return Input(**document)
