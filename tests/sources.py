# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The project's own source files, for the tests that read them."""

import ast
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Iterator, List

import pytest

__all__ = (
    "ROOT",
    "module_name",
    "python_files",
    "skip_without_source",
    "source_files",
    "tracked",
    "tree_of",
)

ROOT = Path(__file__).resolve().parents[1]

_FOLDERS = ("drgn_vmap", "scripts", "contrib", "tests", ".ci")
_SOURCE_NAMES = {"Makefile", "Kbuild", "run", "setup.cfg", ".gitignore"}
_SOURCE_SUFFIXES = {".py", ".c", ".h", ".sh"}


def skip_without_source() -> None:
    """Skip a test of source files where the package is only installed (installed.py)."""
    if not (ROOT / "drgn_vmap").exists():
        pytest.skip("there is no source here")


def python_files(*folders: str) -> List[Path]:
    """Return the Python files under the checkout's ``folders``, sorted."""
    skip_without_source()
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def source_files() -> Iterator[Path]:
    """Yield every file that is source: what has to name its licence."""
    inside = (path for folder in _FOLDERS for path in (ROOT / folder).rglob("*"))
    for path in sorted([*ROOT.iterdir(), *inside]):
        if path.is_file() and (
            path.name in _SOURCE_NAMES or path.suffix in _SOURCE_SUFFIXES
        ):
            yield path


def tracked() -> List[str]:
    """Return the files that git tracks, as they are now, and what it could track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    names = listed.stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).exists()]


def module_name(path: Path) -> str:
    """Return the dotted name of a Python file, from the top of the checkout."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@lru_cache(maxsize=None)
def tree_of(path: Path) -> ast.Module:
    """Return a Python file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
