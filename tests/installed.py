# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Test what a user installs: ``python -m tests.installed [PYTHON …]``.

The sdist is built from what git tracks, and has all of it; the wheel from the sdist. That
is installed where nothing else of the project is, and held against the unit tests and the
samples on the oldest Python that setup.cfg promises, and against the samples on the newest
that is to be had here; or on those that are named, the first of which gets it all. On the
newest of these, the samples are also tried with the oldest drgn that setup.cfg promises and
with some since, and older ones are seen to be refused. The bundle and the Debian package are made and tried on the newest as well.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator, NamedTuple

from tests.sources import ROOT, tracked

PACKAGE = "drgn_vmap"
VERSION = "import sys, ensurepip, venv; print(*sys.version_info[:2], sys.executable)"
PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
WHERE = f"import {PACKAGE}; print({PACKAGE}.__file__)"
EVERYTHING = ("tests/unit", "tests/samples")
#: Each verb, and what differs by version.
ON_NEWEST = (
    "tests/samples",
    "tests/unit/test_drgn.py",
    "tests/unit/test_command_line.py",
)
#: What needs no program made by hand, which drgn can't hold before 0.1.0.
ON_OLD_DRGN = ("tests/samples", "tests/unit/test_drgn.py", "tests/unit/test_names.py")
#: Between the oldest drgn and the newest, these are tried on fewer samples.
DRGN_BETWEEN = ("0.0.33", "0.2.0")
FEWER = ("-k", "7.3 or test_drgn or test_names")
#: Those of Debian 12 and the last before the oldest.
DRGN_TOO_OLD = ("0.0.22", "0.0.30")


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


def options() -> configparser.SectionProxy:
    """Return what setup.cfg promises."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["options"]


def promised() -> int:
    """Return the minor version of the oldest Python that setup.cfg promises."""
    return int(options()["python_requires"].replace(">=3.", ""))


def oldest_drgn() -> str:
    """Return the oldest drgn that setup.cfg promises."""
    found = re.search(r"^drgn>=(.+)$", options()["install_requires"], re.M)
    assert found
    return found[1]


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


class Built(NamedTuple):
    """What people are given."""

    wheel: Path
    bundle: Path
    deb: Path | None
    """Where there is a dpkg-deb."""


def build(tree: Path, output: Path) -> Built:
    """Build it all of a tree, and take away what it was built from."""
    run(sys.executable, "-m", "build", "--outdir", output, tree, cwd=tree)
    [sdist] = output.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked()) <= inside, set(tracked()) - inside
    packaging = tree / "contrib/packaging"
    bundle = output / "vmap.pyz"
    run(sys.executable, packaging / "bundle.py", bundle, cwd=tree)
    deb = None
    if shutil.which("dpkg-deb"):
        run(sys.executable, packaging / "debian.py", output, cwd=tree)
        [deb] = output.glob("*.deb")
    shutil.rmtree(tree / PACKAGE)
    [wheel] = output.glob("*.whl")
    return Built(wheel, bundle, deb)


class Trial(NamedTuple):
    """What is installed, and what is tested then."""

    python: Python
    tests: tuple[str, ...] = EVERYTHING
    drgn: str = ""
    """Its version, the newest if empty."""

    def __str__(self) -> str:
        return f"{self.python} with drgn {self.drgn or 'as new as can be'}"


def trials(wanted: list[Python]) -> Iterator[Trial]:
    """Yield what is tried on some interpreters, the newest last."""
    yield Trial(wanted[0])
    for python in wanted[1:]:
        # make unit tries all of it on a Python that is hardly older.
        yield Trial(python, ON_NEWEST)
    yield Trial(wanted[-1], ON_OLD_DRGN, oldest_drgn())
    for drgn in DRGN_BETWEEN:
        yield Trial(wanted[-1], (*ON_OLD_DRGN, *FEWER), drgn)


def make(trial: Trial, wheel: Path, tree: Path, environment: Path) -> Path:
    """Install the wheel in an environment of its own, and return its Python."""
    run(trial.python.program, "-m", "venv", environment, cwd=tree)
    program = environment / "bin/python"
    drgn = [f"drgn=={trial.drgn}"] * bool(trial.drgn)
    run(program, *PIP[1:], "install", f"{wheel}[test]", *drgn, cwd=tree)
    assert run(program, "-c", WHERE, cwd=tree).startswith(f"{environment}/")
    assert run(environment / "bin/vmap", "--version", cwd=tree).startswith("vmap ")
    return program


def try_on(program: Path, tests: tuple[str, ...], tree: Path) -> None:
    """Run tests of a tree on what is installed."""
    command = [str(program), "-m", "pytest", "--numprocesses", "2", *tests]
    subprocess.run(command, cwd=tree, check=True)


def refuse(program: Path, drgn: str, tree: Path) -> None:
    """See that a drgn that is too old is refused in one line, installed over another."""
    run(program, *PIP[1:], "install", "--no-deps", f"drgn=={drgn}", cwd=tree)
    run(program, "-m", "tests.samples", "7.3", "slice", cwd=tree)
    command = [str(program), "-m", "drgn", "-q", "-c", "slice", "scripts/vmap_ls.py"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    said = f"vmap ls: drgn {drgn} is too old for this, {oldest_drgn()} is needed: "
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), done
    assert lines[0].startswith(said), done


def try_bundle(bundle: Path, python: Python, tree: Path, environment: Path) -> None:
    """See that it names what is missing, and takes nothing else than numpy and drgn."""
    run(python.program, "-m", "venv", environment, cwd=tree)
    program = environment / "bin/python"
    run(program, "-m", "tests.samples", "7.3", "slice", cwd=tree)
    command = [str(program), str(bundle), "ls", "-c", "slice"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    said = "vmap ls: the Python package drgn is not installed: "
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(said)
    run(program, *PIP[1:], "install", "drgn", "numpy", cwd=tree)
    # All but the addresses, which are the kernel's own in the file.
    listed, told = (
        [line.split(None, 1)[1] for line in text.splitlines()]
        for text in (
            run(*command, cwd=tree),
            (tree / "vmcores/7.3.vmallocinfo").read_text(),
        )
    )
    assert listed == told and len(told) > 100
    text = ["top", "--json", "--from", "docs/samples/after"]
    assert json.loads(run(program, bundle, *text, cwd=tree))["total"]["areas"] == 236


def try_deb(deb: Path, program: Path, tree: Path, root: Path) -> None:
    """See what it holds, and that its command runs."""
    run("dpkg-deb", "--extract", deb, root, cwd=tree)
    manuals = {path.name for path in (root / "usr/share/man/man1").iterdir()}
    help_ = run(program, root / "usr/bin/vmap", "help", cwd=tree)
    verbs = re.findall(
        r"^  (\S+) +\S.*$", help_.split("Verbs:")[1].split("\n\n")[0], re.M
    )
    assert manuals == {"vmap.1.gz", *(f"vmap-{verb}.1.gz" for verb in verbs)}
    for path in ("bash-completion/completions/vmap", "zsh/vendor-completions/_vmap"):
        text = (root / "usr/share" / path).read_text()
        assert [verb for verb in verbs if verb not in text] == []


def main() -> None:
    """Do so; the first that fails ends it."""
    wanted = named(sys.argv[1:]) or oldest_and_newest()
    with TemporaryDirectory(prefix="installed-") as directory:
        tree = Path(directory, "tree")
        for name in tracked():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
        built = build(tree, Path(directory, "built"))
        programs = []
        for number, trial in enumerate(trials(wanted)):
            started = time.monotonic()
            print(f"{built.wheel.name} on {trial}", flush=True)
            try:
                programs.append(
                    make(trial, built.wheel, tree, Path(directory, str(number)))
                )
                try_on(programs[-1], trial.tests, tree)
            except subprocess.CalledProcessError as error:
                sys.exit(f"{trial}: {error}")
            print(f"{trial}: {time.monotonic() - started:.0f} s", flush=True)
        try_bundle(built.bundle, wanted[-1], tree, Path(directory, "bundle"))
        print(f"{built.bundle.name}: runs", flush=True)
        if built.deb:
            try_deb(built.deb, programs[0], tree, Path(directory, "root"))
            print(f"{built.deb.name}: complete", flush=True)
        for drgn in DRGN_TOO_OLD:
            # There are wheels of them for the oldest Python.
            refuse(programs[0], drgn, tree)
            print(f"drgn {drgn}: refused", flush=True)


if __name__ == "__main__":
    main()
