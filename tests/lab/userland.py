# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The guests' userland: a small Debian with Python, drgn and what drgn_vmap needs.

It is the same for all kernels, and kept as a directory tree and as the image of the
root disk. Programs of the tree that the making needs run on the host, by the tree's
own loader: the host need not have them.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .cache import build_once, cache_dir
from .ext4 import make_ext4
from .packages import Archive

__all__ = ("CHECKOUT", "busybox_applets", "root_disk", "run_on_host", "tree")

CHECKOUT = Path(__file__).parents[2]

SUITES = ("bookworm", "bookworm-security")
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
"""What SUITES have."""

NOT_NEEDED = ("doc", "info", "lintian", "locale", "man", "perl", "perl5")
"""Below /usr/share: a third of the tree."""

DIRECTORIES = "dev lab mnt proc root run sys tmp usr/lib/debug usr/lib/modules vmap"
"""What no package brings; most are mount points."""

SPARE_MIB = 4096


def root_disk() -> Path:
    """Return the image of the root disk."""
    return _userland() / "root.ext4"


def tree() -> Path:
    """Return what the root disk holds."""
    return _userland() / "tree"


def run_on_host(program: str, *arguments: str, name: str) -> None:
    """Run a program of the tree on the host; ``name`` is its argument 0."""
    _run_from(tree(), program, *arguments, name=name)


def busybox_applets(busybox: Path) -> list[str]:
    """Return the names busybox answers to, without its own."""
    listed = subprocess.run(
        [busybox, "--list"], stdout=subprocess.PIPE, text=True, check=True
    )
    return [name for name in listed.stdout.split() if name != "busybox"]


def _userland() -> Path:
    recipe = hashlib.sha256(Path(__file__).read_bytes())
    recipe.update(" ".join(_python_requirements()).encode())
    directory = cache_dir() / "userland"
    return build_once(directory / recipe.hexdigest()[:12], _build, replaces="*")


def _python_requirements() -> list[str]:
    """Return what drgn_vmap needs at run time, all of it, as setup.cfg lists it."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    hashed = setup["options.extras_require"]["hashed"]
    return [*setup["options"]["install_requires"].split(), *hashed.split()]


def _build(directory: Path) -> None:
    root = directory / "tree"
    root.mkdir(parents=True)
    Archive(*SUITES).unpack_tree(PACKAGES, root)
    for name in NOT_NEEDED:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    _install_python_packages(root)
    _install_busybox_applets(root)
    _configure(root)
    make_ext4(directory / "root.ext4", "root", root, SPARE_MIB)


def _install_python_packages(root: Path) -> None:
    """Install wheels with the host's pip for the guest's Python, and compile all."""
    packages = root / f"usr/local/lib/{PYTHON}/dist-packages"
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-compile"]
    pip += ["--only-binary=:all:", f"--python-version={PYTHON[len('python') :]}"]
    # A C library as new as the suite's, and what wheels for older ones are called.
    pip += ["--platform=manylinux_2_28_x86_64", "--platform=manylinux2014_x86_64"]
    subprocess.run(
        [*pip, f"--target={packages}", *_python_requirements()],
        stdin=subprocess.DEVNULL,
        check=True,
    )
    scripts = root / "usr/local/bin"
    (packages / "bin").rename(scripts)
    for script in scripts.iterdir():
        _, _, text = script.read_text().partition("\n")
        script.write_text(f"#!/usr/bin/python3\n{text}")
    # A guest would need seconds to compile, at each boot.
    compileall = ["-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"]
    compileall += ["-s", str(root), "-p", "/"]
    compileall += [str(root / f"usr/lib/{PYTHON}"), str(packages)]
    program = f"usr/bin/{PYTHON}"
    _run_from(root, program, *compileall, name=str(root / program))


def _install_busybox_applets(root: Path) -> None:
    """Let busybox stand in for each command that no package brought."""
    for applet in busybox_applets(root / "usr/bin/busybox"):
        places = (root / "usr/bin" / applet, root / "usr/sbin" / applet)
        if not any(os.path.lexists(place) for place in places):
            places[0].symlink_to("busybox")


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
