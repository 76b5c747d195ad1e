# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Pages
-----

The output on them is what the commands print; links lead somewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.pages import ELIDED, Shown, matches, shown_commands
from tests.sources import ROOT, python_files, skip_without_source


@pytest.mark.parametrize("shown", shown_commands("python3"), ids=str)
def test_output(shown: Shown) -> None:
    """A command without a kernel prints what its page says, to the character."""
    command = [sys.executable, *shown.words[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    assert matches(shown.lines, done.stdout.splitlines()), done.stdout


def test_there_are_such_commands() -> None:
    """Nothing is tested by having nothing to test."""
    assert len(shown_commands("python3")) >= 3
    assert len(shown_commands("drgn")) >= 8
    assert len(shown_commands("vmap")) >= 8


def test_lines_are_compared() -> None:
    """A line that differs, is missing or is too many is seen."""
    assert matches(["a", ELIDED, "d"], ["a", "b", "c", "d"])
    assert matches(["a", ELIDED], ["a"])
    for printed in (["a"], ["a", "c"], ["a", "b", "c"], []):
        assert not matches(["a", "b"], printed)


def pages() -> list[Path]:
    """Return all pages for people."""
    inside = ("docs", "contrib", "vmcores", "tests")
    return [
        *ROOT.glob("*.md"),
        *(page for folder in inside for page in (ROOT / folder).rglob("*.md")),
    ]


def test_links() -> None:
    """Each relative link of a page names a file that is there."""
    dead = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages()
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert dead == []


def test_files_that_are_named() -> None:
    """A page that names a source file names one that is there."""
    skip_without_source()
    named = re.compile(r"`((?:drgn_vmap|scripts|tests|contrib)/[\w./]+)`")
    found = {
        (str(page.relative_to(ROOT)), name)
        for page in pages()
        for name in named.findall(page.read_text(encoding="utf-8"))
    }
    assert len(found) > 20
    # VERB stands for any verb.
    dead = {
        (page, name)
        for page, name in found
        if not any(ROOT.glob(name.replace("VERB", "*")))
    }
    assert dead == set()


def test_names_in_docstrings() -> None:
    """A docstring that refers to a name of the package refers to one that is there."""
    referred = re.compile(r":\w+:`~?(drgn_vmap\.[\w.]+)`")
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in python_files("drgn_vmap", "scripts", "tests")
        for name in referred.findall(path.read_text(encoding="utf-8"))
    }
    assert len(found) > 5
    assert {(path, name) for path, name in found if not is_there(name)} == set()


def is_there(name: str) -> bool:
    """Return whether a dotted name is that of a module, or of something in one."""
    module, _, inside = name.rpartition(".")
    try:
        import_module(name)
    except ImportError:
        return bool(module) and is_there(module) and inside in namespace(module)
    return True


def namespace(name: str) -> set[str]:
    """Return the names in a module or a class, fields of a dataclass too."""
    try:
        return set(dir(import_module(name)))
    except ImportError:
        module, _, inside = name.rpartition(".")
        found = getattr(import_module(module), inside)
        return {*dir(found), *getattr(found, "__annotations__", {})}


def test_contributing_draws_every_file_of_the_kernel() -> None:
    """And no other: the tree has a line for each, in the room where it is."""
    drawn, rooms = set(), [""]
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for line in tree[tree.index("\nkernel/\n") :].split("```")[0].splitlines()[2:]:
        indent, name = re.findall(r"^( *)(\S+)", line)[0]
        # What is in a room stands two blanks to the right of it.
        rooms[len(indent) // 2 :] = [name]
        if not name.endswith("/"):
            drawn.add("".join(rooms))
    kernel = ROOT / "drgn_vmap" / "kernel"
    there = {
        str(path.relative_to(kernel))
        for path in python_files("drgn_vmap/kernel")
        if path.name != "__init__.py"
    }
    assert drawn == there
