# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Test what a user installs: ``python -m tests.installed [PYTHON …]``.

The wheel is built from what git tracks, installed where nothing else of the project is,
and held against the unit tests and the samples; on the oldest Python that setup.cfg
promises and on the newest that is to be had here, or on those that are named.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator, NamedTuple

from tests.sources import ROOT, tracked

PACKAGE = "drgn_vmap"
VERSION = "import sys, ensurepip, venv; print(*sys.version_info[:2], sys.executable)"
PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
WHERE = f"import {PACKAGE}; print({PACKAGE}.__file__)"


class Python(NamedTuple):
    """An interpreter that runs."""

    minor: int
    """Of its version, 3.this."""

    program: str

    def __str__(self) -> str:
        return f"Python 3.{self.minor}"


def probe(program: str, **environment: str) -> Python | None:
    """Return the interpreter behind a command; None if it doesn't run, or lacks venv."""
    try:
        done = subprocess.run(
            [program, "-c", VERSION],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    found = re.fullmatch(r"3 (\d+) (.+)\n", done.stdout)
    return Python(int(found[1]), found[2]) if found else None


def pythons() -> Iterator[Python]:
    """Yield interpreters: this one, those on the PATH, and those that pyenv has."""
    yield Python(sys.version_info.minor, sys.executable)
    for directory in os.get_exec_path():
        for path in sorted(Path(directory).glob("python3.*")):
            if not re.fullmatch(r"python3\.\d+", path.name):
                continue
            found = probe(str(path))
            if found:
                yield found
            elif shutil.which("pyenv"):
                # A shim runs what it is told to.
                whence = ["pyenv", "whence", path.name]
                listed = subprocess.run(whence, stdout=subprocess.PIPE, text=True)
                for version in listed.stdout.split():
                    found = probe(str(path), PYENV_VERSION=version)
                    if found:
                        yield found


def promised() -> int:
    """Return the minor version of the oldest Python that setup.cfg promises."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return int(setup["options"]["python_requires"].replace(">=3.", ""))


def oldest_and_newest() -> list[Python]:
    """
    Return both, or the newest alone where the oldest is not to be had.

    :raises SystemExit: in that case, if VMAP_REQUIRE names them.
    """
    found = {python.minor: python for python in pythons()}
    oldest, newest = promised(), found[max(found)]
    if oldest in found:
        return list(dict.fromkeys([found[oldest], newest]))
    missing = (
        f"Python 3.{oldest}, which setup.cfg promises, is not to be had here, only "
        f"{', '.join(map(str, sorted(found.values())))}: put a python3.{oldest} on PATH"
    )
    if "pythons" in os.environ.get("VMAP_REQUIRE", "").split(","):
        sys.exit(f"VMAP_REQUIRE=pythons, but {missing}")
    print(f"Not tested: {missing}", flush=True)
    return [newest]


def named(programs: list[str]) -> list[Python]:
    """
    Return the interpreters behind some commands.

    :raises SystemExit: if one is none.
    """
    found = [probe(program) for program in programs]
    if None in found:
        sys.exit(f"{programs[found.index(None)]} is no Python with venv")
    return [python for python in found if python]


def run(*command: object, cwd: Path) -> str:
    """Run a program to its end, which has to be a good one; return what it printed."""
    words = list(map(str, command))
    done = subprocess.run(words, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def build(tree: Path, output: Path) -> Path:
    """Build the wheel of a tree, and take away what it was built from."""
    run(*PIP, "wheel", "--no-deps", "-w", output, ".", cwd=tree)
    for folder in (PACKAGE, "build"):
        shutil.rmtree(tree / folder)
    [wheel] = output.glob("*.whl")
    return wheel


def try_on(python: Python, wheel: Path, tree: Path, environment: Path) -> None:
    """Install the wheel in an environment of its own, and run the tests of a tree."""
    run(python.program, "-m", "venv", environment, cwd=tree)
    program = environment / "bin/python"
    run(program, *PIP[1:], "install", f"{wheel}[test]", cwd=tree)
    assert run(program, "-c", WHERE, cwd=tree).startswith(f"{environment}/")
    tests = ["--numprocesses", "2", "tests/unit", "tests/samples"]
    subprocess.run([program, "-m", "pytest", *tests], cwd=tree, check=True)


def main() -> None:
    """Do so; the first that fails ends it."""
    wanted = named(sys.argv[1:]) or oldest_and_newest()
    with TemporaryDirectory(prefix="installed-") as directory:
        tree = Path(directory, "tree")
        for name in tracked():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
        wheel = build(tree, Path(directory, "wheel"))
        for python in wanted:
            started = time.monotonic()
            print(f"{wheel.name} on {python}", flush=True)
            try:
                try_on(python, wheel, tree, Path(directory, f"3.{python.minor}"))
            except subprocess.CalledProcessError as error:
                sys.exit(f"{python}: {error}")
            print(f"{python}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
