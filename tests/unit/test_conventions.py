# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Conventions are tests, not requests
-----------------------------------

What CONTRIBUTING.md asks of every file, read from the files themselves.
"""

import ast
import re
from pathlib import Path
from typing import Iterator, List, Set, Union

import pytest

from drgn_vmap.commands import VERBS
from tests.sources import ROOT, python_files, source_files, tree_of

COPYRIGHT = "Copyright (c) drgn_vmap authors"
LICENSE = "SPDX-License-Identifier: LGPL-2.1-or-later"
#: What is built into a kernel takes the kernel's licence.
KERNEL_FOLDER = ROOT / "tests" / "lab" / "module"
KERNEL_LICENSE = "SPDX-License-Identifier: GPL-2.0"

#: Names that hold a kernel's version, by the words between their underscores.
VERSION_WORDS = {"release", "osrelease", "version", "uts", "utsname"}

Documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


# Licences


def license_lines(text: str) -> Set[str]:
    """Return a file's first two lines, after ``#!``, without comment signs."""
    lines = text.splitlines()
    first = 1 if text.startswith("#!") else 0
    return {line.strip("#/* ") for line in lines[first : first + 2]}


def test_every_source_file_names_its_licence() -> None:
    """Copyright and SPDX lines open each source file."""
    unlicensed = [
        str(path.relative_to(ROOT))
        for path in source_files()
        if license_lines(path.read_text(encoding="utf-8"))
        != {COPYRIGHT, KERNEL_LICENSE if KERNEL_FOLDER in path.parents else LICENSE}
    ]
    assert unlicensed == []


def test_every_licence_named_is_there() -> None:
    """LICENSES/ holds the text of each."""
    names = {path.name for path in (ROOT / "LICENSES").iterdir()}
    assert names == {"GPL-2.0-only.txt", "LGPL-2.1-or-later.txt"}


# Public names


def _public_definitions(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield node


def _all_of(tree: ast.Module) -> Union[List[str], None]:
    """Return what ``__all__`` spells out, None if there is none."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if [getattr(target, "id", "") for target in targets] == ["__all__"]:
            assert isinstance(node, ast.Assign)
            elements = getattr(node.value, "elts", [])
            return [ast.literal_eval(element) for element in elements]
    return None


def undocumented(tree: ast.Module) -> List[str]:
    """Return the public functions, classes and methods without a docstring."""
    found = [] if ast.get_docstring(tree) else ["(module)"]
    for node in _public_definitions(tree):
        assert isinstance(node, Documented)
        if not ast.get_docstring(node):
            found.append(node.name)
        for inner in node.body if isinstance(node, ast.ClassDef) else []:
            if (
                isinstance(inner, Documented)
                and not inner.name.startswith("_")
                and not ast.get_docstring(inner)
            ):
                found.append(f"{node.name}.{inner.name}")
    return found


def unlisted(tree: ast.Module) -> List[str]:
    """Return the public functions and classes that ``__all__`` leaves out."""
    listed = _all_of(tree) or []
    names = [getattr(node, "name") for node in _public_definitions(tree)]
    return [name for name in names if name not in listed]


def _public_modules() -> List[Path]:
    return [
        path
        for path in python_files("drgn_vmap")
        if path.name == "__init__.py" or not path.name.startswith("_")
    ]


def test_every_public_name_has_a_docstring() -> None:
    """Whoever types help() gets an answer."""
    found = {
        str(path.relative_to(ROOT)): undocumented(tree_of(path))
        for path in _public_modules()
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_every_public_module_lists_its_names() -> None:
    """``__all__`` is there, and holds every public function and class."""
    missing = {}
    for path in _public_modules():
        tree = tree_of(path)
        only_a_docstring = len(tree.body) == 1
        if _all_of(tree) is None and not only_a_docstring:
            missing[str(path.relative_to(ROOT))] = ["__all__"]
        elif unlisted(tree):
            missing[str(path.relative_to(ROOT))] = unlisted(tree)
    assert missing == {}


# Kernel differences


def _names_a_version(node: ast.expr) -> bool:
    """Whether an expression says UTS_RELEASE, osrelease or the like."""
    for part in ast.walk(node):
        name = getattr(part, "attr", getattr(part, "id", getattr(part, "value", "")))
        if isinstance(name, str) and VERSION_WORDS & set(
            re.split(r"[^a-z]+", name.lower())
        ):
            return True
    return False


def _is_a_version(node: ast.expr) -> bool:
    """Whether an expression is a tuple of numbers such as ``(6, 9)``."""
    return (
        isinstance(node, ast.Tuple)
        and len(node.elts) >= 2
        and all(
            isinstance(element, ast.Constant) and isinstance(element.value, int)
            for element in node.elts
        )
    )


def version_tests(tree: ast.Module) -> List[int]:
    """Return the lines that decide something by a kernel's version."""
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(_names_a_version(side) or _is_a_version(side) for side in sides):
                lines.add(node.lineno)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in (
            "startswith",
            "match",
            "search",
            "fullmatch",
            "split",
        ):
            if any(_names_a_version(side) for side in [node.func, *node.args]):
                lines.add(node.lineno)
    return sorted(lines)


def test_no_kernel_difference_is_decided_by_version() -> None:
    """Distributions backport: only what is there tells what a kernel does."""
    paths = python_files("drgn_vmap/kernel") + [ROOT / "drgn_vmap" / "helpers.py"]
    found = {
        str(path.relative_to(ROOT)): version_tests(tree_of(path))
        for path in paths
        if path.exists()
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "if release >= '6.9': pass",
        "new = prog['UTS_RELEASE'].string_() > b'6.9'",
        "new = version(prog) >= (6, 9)",
        "new = numbers >= (6, 9)",
        "new = snapshot.release.startswith('7.')",
        "new = re.match(r'7[.]', info['OSRELEASE'])",
    ],
)
def test_a_version_test_is_seen(source: str) -> None:
    """The search finds the ways to compare a kernel's version."""
    assert version_tests(ast.parse(source)) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "release = prog['UTS_RELEASE'].string_().decode()",
        "new = has_member(prog.type('struct vmap_node'), 'busy')",
        "if size == 4096: pass",
    ],
)
def test_a_probe_is_left_alone(source: str) -> None:
    """Reporting the release, and probing, are no version tests."""
    assert version_tests(ast.parse(source)) == []


# Doors


def _functions(tree: ast.Module) -> Set[str]:
    """Return the names of a module's own functions."""
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_verb_has_its_doors() -> None:
    """Each verb is a command, is registered with the others, and has its script."""
    verbs = {
        path.stem.replace("_", "-")
        for path in python_files("drgn_vmap/commands")
        if "add_arguments" in _functions(tree_of(path))
    }
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert verbs == set(VERBS)
    assert scripts == {f"vmap_{verb.replace('-', '_')}" for verb in VERBS}
