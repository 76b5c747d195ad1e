# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Arrows point down only
----------------------

Walks the imports of the package, the scripts and the tests, and fails on an edge
that the house does not have::

    scripts -> commands -> analyses, render, kernel -> model -> errors

and within ``kernel``::

    vmalloc -> target -> layout -> functions -> memory -> types -> doors

A room is a top-level module or package of ``drgn_vmap``, a folder beside it, or a module
or package of ``drgn_vmap.kernel``.
"""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set

import pytest

from tests.sources import ROOT, module_name, python_files, tree_of

_BASE = {"model", "errors", "_numpy", "_drgn"}
#: What each room may import of the project, besides itself.
ALLOWED: Dict[str, Set[str]] = {
    "errors": set(),
    "_drgn": {"errors"},
    "kernel": {"_drgn"},
    "model": {"errors", "_numpy"},
    "_numpy": set(),
    "kernel.doors": {"model", "errors", "_drgn"},
    "kernel.types": {"kernel.doors", *_BASE},
    "kernel.memory": {"kernel.types", "kernel.doors", *_BASE},
    "kernel.functions": {"kernel.types", "kernel.doors", *_BASE},
    "kernel.layout": {
        "kernel.functions",
        "kernel.memory",
        "kernel.types",
        "kernel.doors",
        *_BASE,
    },
    "kernel.target": {
        "kernel.layout",
        "kernel.functions",
        "kernel.memory",
        "kernel.types",
        "kernel.doors",
        *_BASE,
    },
    "kernel.opening": {"kernel.target", "kernel.memory", "_drgn", "errors"},
    "kernel.vmalloc": {
        "kernel.target",
        "kernel.layout",
        "kernel.memory",
        "kernel.types",
        "kernel.doors",
        *_BASE,
    },
    "analyses": {"model", "errors", "_numpy"},
    "render": {"model", "errors", "_numpy"},
    "helpers": {"api", "model", "errors"},
    "api": {
        "kernel",
        "kernel.target",
        "kernel.types",
        "kernel.memory",
        "kernel.vmalloc",
        "model",
        "errors",
    },
    "commands": {
        "analyses",
        "render",
        "kernel.opening",
        "kernel.target",
        "kernel.vmalloc",
        "kernel.memory",
        "_drgn",
        "model",
        "errors",
        # Its version.
        "drgn_vmap",
    },
    "plugin": {"_drgn", "commands", "errors"},
    "__main__": {"commands"},
    # The public names: drgn_vmap/__init__.py.
    "drgn_vmap": {"analyses", "api", "model", "errors"},
    "scripts": {"commands"},
}
ALLOWED["tests"] = set(ALLOWED)
#: Within ``kernel``: how many floors of files may stand on one another.
MAX_FLOORS = 10
#: Who may import drgn, and who may name its types under ``TYPE_CHECKING`` as well.
DRGN_AT_RUN_TIME = {
    *(room for room in ALLOWED if room.startswith("kernel.")),
    *("_drgn", "helpers", "api", "plugin", "tests"),
}
DRGN_FOR_TYPES = DRGN_AT_RUN_TIME | {"commands"}
#: Who may import numpy: it has to be told to start no threads before it is imported.
NUMPY = {"_numpy", "tests"}
#: Who may import by a name that only running the code tells.
DYNAMIC = {"_numpy", "drgn_vmap", "commands", "tests"}
#: Who may print, and who has no business outside its arguments and results.
PRINTING = {"commands", "scripts"}
PURE = {"errors", "model", "analyses", "render"}
#: What a test file has is its own; what is shared has a room: tests/expect, fakes …
TEST_FILE = "test_"
OUTSIDE_WORLD = {"os", "pathlib", "shutil", "socket", "subprocess", "sys", "tempfile"}

_UNKNOWN = "?"
_IMPORTERS = {"import_module", "__import__"}


class Import(NamedTuple):
    """One imported name."""

    target: str
    """Dotted name, or ``?`` if only running the code tells."""

    line: int
    for_types: bool
    """Whether only a type checker sees it."""


def room_of(module: str) -> str:
    """Return the room that a dotted name lies in."""
    top, _, rest = module.partition(".")
    if top != "drgn_vmap":
        return top
    inside = rest.partition(".")[0]
    if inside == "kernel":
        inside = ".".join(rest.split(".")[:2])
    # ``from drgn_vmap import Area`` names no room: it goes through the public names.
    return inside if inside in ALLOWED else "drgn_vmap"


def _name_of(node: ast.expr) -> str:
    """Return ``name`` of ``name`` and of ``module.name``, ``""`` of all else."""
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _lines_for_types(tree: ast.Module) -> Set[int]:
    """Return the lines that stand under ``if TYPE_CHECKING:``."""
    lines: Set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and _name_of(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                lines.update(range(statement.lineno, (statement.end_lineno or 0) + 1))
    return lines


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """Return what ``from ... import`` imports from, as seen from ``package``."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join(base + ([node.module] if node.module else []))


def _dynamic_target(node: ast.Call, package: str) -> str:
    """Return the module that ``import_module()`` or ``__import__()`` asks for."""
    name = node.args[0] if node.args else None
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return _UNKNOWN
    return package + name.value if name.value.startswith(".") else name.value


def _targets_of(node: ast.AST, package: str) -> List[str]:
    """Return the dotted names that one statement or call imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _absolute(node, package)
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and _name_of(node.func) in _IMPORTERS:
        return [_dynamic_target(node, package)]
    return []


def imports_of(tree: ast.Module, package: str) -> Iterator[Import]:
    """Yield what a module of ``package`` imports, anywhere in it."""
    for_types = _lines_for_types(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.stmt, ast.expr)):
            for target in _targets_of(node, package):
                yield Import(target, node.lineno, node.lineno in for_types)


def _wrong_import(room: str, found: Import) -> str:
    """Return what is wrong with an import, ``""`` if nothing is."""
    top = found.target.partition(".")[0]
    if top == "contrib":
        return "nothing imports contrib"
    if found.target == _UNKNOWN:
        return "" if room in DYNAMIC else "imports by a name that can't be checked"
    if top == "drgn":
        may = DRGN_FOR_TYPES if found.for_types else DRGN_AT_RUN_TIME
        return "" if room in may else f"{room} never sees drgn"
    if top == "numpy" and room not in NUMPY:
        return "numpy comes from drgn_vmap._numpy"
    if top in OUTSIDE_WORLD and room in PURE:
        return f"{room} is pure: no {top}"
    if top not in ("drgn_vmap", "scripts", "tests"):
        return ""
    if any(part.startswith(TEST_FILE) for part in found.target.split(".")):
        return "nothing imports a test file: share by tests/expect, fakes or running"
    target = room_of(found.target)
    if target == room or target in ALLOWED[room]:
        return ""
    return f"{room} -> {target} is no edge of the house"


def _prints(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that print, or that touch a standard stream."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            yield node.lineno
        elif isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
            yield node.lineno


def violations(module: str, is_package: bool, tree: ast.Module) -> List[str]:
    """Return every broken rule of a module, as ``line: what``."""
    room = room_of(module)
    if room not in ALLOWED or (room == "drgn_vmap") != (module == "drgn_vmap"):
        return [f"1: {module} is in no room of the house"]
    package = module if is_package else module.rpartition(".")[0]
    found = [
        f"{one.line}: {wrong} ({one.target})"
        for one in imports_of(tree, package)
        for wrong in [_wrong_import(room, one)]
        if wrong
    ]
    if room not in PRINTING | {"tests"}:
        found += [f"{line}: {room} never prints" for line in _prints(tree)]
    return found


def _violations_of(path: Path) -> List[str]:
    found = violations(module_name(path), path.name == "__init__.py", tree_of(path))
    return [f"{path.relative_to(ROOT)}:{what}" for what in found]


def _floors() -> Dict[str, int]:
    """Return for each module of ``kernel`` how many stand on one another up to it."""
    modules = {module_name(path): path for path in python_files("drgn_vmap/kernel")}
    below = {
        module: {
            base
            for one in imports_of(tree_of(path), module.rpartition(".")[0])
            for base in (one.target, one.target.rpartition(".")[0])
            if base in modules and base != module
        }
        for module, path in modules.items()
        if path.name != "__init__.py"
    }
    floors: Dict[str, int] = {}
    while len(floors) < len(below):
        ready = {
            module: 1 + max((floors[one] for one in below[module]), default=0)
            for module in below
            if module not in floors and below[module] <= set(floors)
        }
        assert ready, f"in a circle: {sorted(set(below) - set(floors))}"
        floors.update(ready)
    return floors


def test_floors_of_the_kernel() -> None:
    """Nothing within the largest room goes in circles, or is a tower."""
    floors = _floors()
    assert len(floors) > 30 and max(floors.values()) <= MAX_FLOORS, floors


def test_every_import_is_an_edge_of_the_house() -> None:
    """No module of the checkout imports upwards or sideways, or prints from below."""
    paths = python_files("drgn_vmap", "scripts", "tests")
    assert Path(__file__).resolve() in paths
    assert [what for path in paths for what in _violations_of(path)] == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("drgn_vmap.kernel.vmalloc.areas", "from ...render import proc"),
        ("drgn_vmap.kernel.vmalloc.areas", "from drgn_vmap.commands.ls import run"),
        (
            "drgn_vmap.kernel.vmalloc.areas",
            "def f():\n    import drgn_vmap.analyses.top",
        ),
        ("drgn_vmap.kernel.vmalloc.areas", "from ... import helpers"),
        ("drgn_vmap.kernel.vmalloc.areas", "import numpy as np"),
        ("drgn_vmap.kernel.vmalloc.areas", "from drgn_vmap import Area"),
        ("drgn_vmap.kernel.vmalloc.areas", "print('x')"),
        ("drgn_vmap.kernel.vmalloc.areas", "import sys\nsys.stderr.write('x')"),
        ("drgn_vmap.kernel.vmalloc.areas", "import_module('drgn_vmap.render')"),
        (
            "drgn_vmap.kernel.vmalloc.areas",
            "import importlib\nimportlib.import_module(x)",
        ),
        ("drgn_vmap.kernel.types.btf", "from ..memory.bulk import Memory"),
        ("drgn_vmap.kernel.memory.bulk", "from ..target import Target"),
        ("drgn_vmap.kernel.memory.numa", "from ..vmalloc.lists import walk_list"),
        ("drgn_vmap.kernel.target", "from .vmalloc.snapshot import take_snapshot"),
        ("drgn_vmap.kernel.attic", "pass"),
        ("drgn_vmap.commands.ls", "from ..kernel.types.btf import BtfTypes"),
        ("drgn_vmap.analyses.top", "from drgn import Program"),
        ("drgn_vmap.analyses.top", "from ..kernel.target import Target"),
        ("drgn_vmap.analyses.top", "from ..render import table"),
        ("drgn_vmap.analyses.top", "import os.path"),
        ("drgn_vmap.render.table", "from drgn.helpers.linux import mm"),
        ("drgn_vmap.render.table", "print('x')"),
        ("drgn_vmap.model", "from .kernel import areas"),
        ("drgn_vmap.errors", "from .model import Area"),
        ("drgn_vmap.commands.ls", "import drgn"),
        ("drgn_vmap.commands.ls", "from ..plugin import command"),
        ("drgn_vmap.plugin", "from .kernel.target import Target"),
        ("drgn_vmap.helpers", "import contrib.trial"),
        ("drgn_vmap.kernel.memory.bulk", "if not TYPE_CHECKING:\n    import contrib"),
        ("scripts.vmap_ls", "from drgn_vmap.kernel.vmalloc import snapshot"),
        ("scripts.vmap_ls", "from drgn_vmap import collect"),
        ("scripts.vmap_ls", "import drgn"),
        ("tests.unit.test_x", "from contrib import trial"),
        ("tests.unit.test_x", "from tests.lab.test_ls import KINDS"),
        ("tests.unit.test_x", "from .test_y import helper"),
        ("tests.lab.test_x", "from . import test_y"),
        ("tests.expect.x", "import tests.unit.test_y"),
        ("attic.old", "pass"),
        ("drgn_vmap.attic", "pass"),
    ],
)
def test_a_wrong_edge_is_seen(module: str, source: str) -> None:
    """The walk finds each kind of wrong import and of printing."""
    assert len(violations(module, False, ast.parse(source))) == 1


@pytest.mark.parametrize(
    "module, source",
    [
        ("drgn_vmap.kernel.vmalloc.areas", "import drgn\nfrom ...model import Area"),
        ("drgn_vmap.kernel.vmalloc.areas", "from ..._numpy import np"),
        (
            "drgn_vmap.kernel.vmalloc.areas",
            "from . import trees\nfrom .trees import read",
        ),
        ("drgn_vmap.commands.ls", "from ..kernel.vmalloc.snapshot import collect"),
        ("drgn_vmap.commands.ls", "if TYPE_CHECKING:\n    from drgn import Program"),
        ("drgn_vmap.commands.ls", "import sys\nprint(file=sys.stderr)"),
        ("drgn_vmap.plugin", "from drgn.commands import command"),
        ("scripts.vmap_ls", "from drgn_vmap.commands import main"),
    ],
)
def test_a_right_edge_is_left_alone(module: str, source: str) -> None:
    """The walk does not cry wolf."""
    assert violations(module, False, ast.parse(source)) == []


@pytest.mark.parametrize(
    "module, unwanted",
    [
        ("drgn_vmap", {"drgn", "numpy", "tabulate", "siphash24"}),
        ("drgn_vmap.plugin", {"numpy", "tabulate", "siphash24"}),
        ("drgn_vmap.commands.ls", {"drgn", "numpy"}),
    ],
)
def test_importing_is_light(module: str, unwanted: Set[str]) -> None:
    """What everybody who starts drgn loads stays out of the slow imports."""
    code = f"import sys, {module}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert module in loaded
    assert loaded & unwanted == set()
