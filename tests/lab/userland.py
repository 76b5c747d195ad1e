# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The guests' userland: a small Debian with Python, drgn and what drgn_vmap needs.

It is the same for all kernels of an architecture, and kept as a directory tree and as the
image of the root disk. Programs that the making needs run on the host, from the tree for
the host's architecture and by that tree's own loader: the host need not have them.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable

from .architecture import AMD64, ARM64, ARMHF, PPC64EL, RISCV64, S390X, Architecture
from .cache import build_once, cache_dir
from .ext4 import make_ext4
from .packages import Archive

__all__ = (
    "CHECKOUT",
    "PYTHON",
    "busybox",
    "busybox_applets",
    "root_disk",
    "run_on_host",
    "tree",
)

CHECKOUT = Path(__file__).parents[2]

PACKAGES = (
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "diffutils",
    "grep",
    "kexec-tools",
    "kmod",
    "libstdc++6",
    "makedumpfile",
    "python3",
    "sed",
    "tar",
    "util-linux",
)
PYTHON = "python3.11"
"""What the host's architecture has in its guests."""

MANYLINUX = ("manylinux_2_28", "manylinux2014")
"""A C library as old as that of all suites, and what wheels for older ones are called."""

NOT_NEEDED = ("doc", "info", "lintian", "locale", "man", "perl", "perl5")
"""Below /usr/share: a third of the tree."""

BUSYBOX = "usr/bin/busybox"

DIRECTORIES = "dev lab mnt proc root run sys tmp usr/lib/debug usr/lib/modules vmap"
"""What no package brings; most are mount points."""

SPARE_MIB = 4096


@dataclass(frozen=True)
class _Source:
    """Where the userland of an architecture comes from."""

    suites: tuple[str, ...]
    packaged: tuple[str, ...] = ()
    """Of what drgn_vmap needs, that for which there is no wheel: Debian has it."""

    nowhere: tuple[str, ...] = ()
    """And what Debian does not have either: no hashed addresses there."""


_SOURCES = {
    AMD64: _Source(("bookworm", "bookworm-security")),
    ARM64: _Source(("trixie", "trixie-security"), ("drgn",)),
    PPC64EL: _Source(("forky",), ("drgn", "numpy"), ("siphash24",)),
    ARMHF: _Source(("forky",), ("drgn", "numpy"), ("siphash24",)),
    RISCV64: _Source(("forky",), ("drgn", "numpy"), ("siphash24",)),
    S390X: _Source(("forky",), ("drgn", "numpy"), ("siphash24",)),
}


def root_disk(architecture: Architecture) -> Path:
    """Return the image of the root disk."""
    return _userland(architecture) / "root.ext4"


def tree(architecture: Architecture) -> Path:
    """Return what the root disk holds."""
    return _userland(architecture) / "tree"


def busybox(architecture: Architecture = AMD64) -> Path:
    """Return the busybox of a tree; if none is named, the one that runs on the host."""
    return tree(architecture) / BUSYBOX


def run_on_host(program: str, *arguments: str, name: str) -> None:
    """Run a program of the host's tree; ``name`` is its argument 0."""
    _run_from(tree(AMD64), program, *arguments, name=name)


def busybox_applets(program: Path) -> list[str]:
    """Return the names that a busybox of the host answers to, without its own."""
    listed = subprocess.run(
        [program, "--list"], stdout=subprocess.PIPE, text=True, check=True
    )
    return [name for name in listed.stdout.split() if name != "busybox"]


def _userland(architecture: Architecture) -> Path:
    recipe = hashlib.sha256(Path(__file__).read_bytes())
    recipe.update(" ".join(_python_requirements()).encode())
    other = "" if architecture == AMD64 else f"-{architecture.debian}"
    return build_once(
        cache_dir() / f"userland{other}" / recipe.hexdigest()[:12],
        lambda directory: _build(architecture, directory),
        replaces="*",
    )


def _python_requirements() -> list[str]:
    """Return what drgn_vmap needs at run time, all of it, as setup.cfg lists it."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    hashed = setup["options.extras_require"]["hashed"]
    return [*setup["options"]["install_requires"].split(), *hashed.split()]


def _build(architecture: Architecture, directory: Path) -> None:
    root, source = directory / "tree", _SOURCES[architecture]
    root.mkdir(parents=True)
    packages = (*PACKAGES, *(f"python3-{name}" for name in source.packaged))
    archive = Archive(*source.suites, architecture=architecture.debian)
    archive.unpack_tree(packages, root)
    for name in NOT_NEEDED:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    _install_wheels(root, architecture, source)
    if architecture == AMD64:
        # A guest would need seconds to compile, at each boot.
        _compile(root, PYTHON)
    host = root if architecture == AMD64 else tree(AMD64)
    _install_busybox_applets(root, busybox_applets(host / BUSYBOX))
    _choose_alternatives(root)
    _configure(root)
    make_ext4(directory / "root.ext4", "root", root, SPARE_MIB)


def _install_wheels(root: Path, architecture: Architecture, source: _Source) -> None:
    """Install wheels with the host's pip for the guest's Python."""
    [python] = (path.name for path in root.glob("usr/lib/python3.*"))
    packages = root / f"usr/local/lib/{python}/dist-packages"
    machine = architecture.triplet.partition("-")[0]
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-compile"]
    pip += ["--only-binary=:all:", f"--python-version={python[len('python') :]}"]
    pip += [f"--platform={linux}_{machine}" for linux in MANYLINUX]
    wanted = (
        requirement
        for requirement in _python_requirements()
        if not requirement.startswith((*source.packaged, *source.nowhere))
    )
    subprocess.run(
        [*pip, f"--target={packages}", *wanted], stdin=subprocess.DEVNULL, check=True
    )
    scripts = root / "usr/local/bin"
    (packages / "bin").rename(scripts)
    for script in scripts.iterdir():
        _, _, text = script.read_text().partition("\n")
        script.write_text(f"#!/usr/bin/python3\n{text}")


def _compile(root: Path, python: str) -> None:
    """Compile all that is in Python."""
    compileall = ["-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"]
    compileall += ["-s", str(root), "-p", "/"]
    for place in (f"usr/lib/{python}", f"usr/local/lib/{python}/dist-packages"):
        compileall.append(str(root / place))
    program = f"usr/bin/{python}"
    _run_from(root, program, *compileall, name=str(root / program))


def _install_busybox_applets(root: Path, applets: Iterable[str]) -> None:
    """Let busybox stand in for each command that no package brought."""
    for applet in applets:
        places = (root / "usr/bin" / applet, root / "usr/sbin" / applet)
        if not any(os.path.lexists(place) for place in places):
            places[0].symlink_to("busybox")


def _choose_alternatives(root: Path) -> None:
    """Let numpy find its libraries, where update-alternatives would put links."""
    for library in root.glob("usr/lib/*/*/lib*.so.3"):
        if library.parent.name in ("blas", "lapack"):
            link = library.parents[1] / library.name
            link.symlink_to(library.relative_to(link.parent))


def _configure(root: Path) -> None:
    """Add what maintainer scripts and an installer would; /lab comes at boot."""
    for directory in DIRECTORIES.split():
        (root / directory).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/inittab").symlink_to("/lab/inittab")
    (root / "etc/profile").unlink(missing_ok=True)
    (root / "etc/profile").symlink_to("/lab/profile")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def _run_from(root: Path, program: str, *arguments: str, name: str) -> None:
    loader = [str(root / "lib64/ld-linux-x86-64.so.2"), "--argv0", name]
    libraries = ["--library-path", str(root / "usr/lib/x86_64-linux-gnu")]
    subprocess.run(
        [*loader, *libraries, str(root / program), *arguments],
        stdin=subprocess.DEVNULL,
        check=True,
    )
