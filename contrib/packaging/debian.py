#!/usr/bin/env python3
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Make a Debian package of the tree, with dpkg-deb:

    debian.py build

It depends on Debian 13's packages or newer ones, and has the command, its manual pages
and completions, and the plugin of drgn. Tried in Debian 13.
"""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PACKAGE = "drgn-vmap"
MODULES = "usr/lib/python3/dist-packages"
COMMAND = """\
#!/usr/bin/python3
from drgn_vmap.commands.command_line import main

main()
"""
#: What pip notes down of where and how it installed.
NOTED = ("RECORD", "REQUESTED", "INSTALLER", "direct_url.json")


def run(*command):
    """Run a command to its good end."""
    subprocess.run(list(map(str, command)), check=True)


def version():
    """Return the version of what is packed."""
    about = {}
    for line in (ROOT / "drgn_vmap/__init__.py").read_text().splitlines():
        if line.startswith("__version__"):
            exec(line, about)
    return about["__version__"]


def add_package(root):
    """Add the package, with what makes it a plugin of drgn."""
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    with TemporaryDirectory(prefix="deb-") as directory:
        # Built in a copy: setuptools leaves things behind.
        tree = Path(directory, "tree")
        for name in ("drgn_vmap", "LICENSES"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        for name in ("README.md", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, tree / name)
        target = ["--no-deps", "--no-compile", "--target", root / MODULES, tree]
        run(*pip, "install", *target)
    shutil.rmtree(root / MODULES / "bin")
    for name in NOTED:
        for path in (root / MODULES).glob(f"*.dist-info/{name}"):
            path.unlink()


def add_command(root):
    """Add the command, its manual pages and completions."""
    command = root / "usr/bin/vmap"
    command.parent.mkdir(parents=True)
    command.write_text(COMMAND)
    command.chmod(0o755)
    run(sys.executable, HERE / "manuals.py", root / "usr")


def add_documents(root):
    """Add README, docs, and what Debian wants beside them."""
    documents = root / "usr/share/doc" / PACKAGE
    shutil.copytree(ROOT / "docs", documents / "docs")
    shutil.copy(ROOT / "README.md", documents)
    shutil.copy(ROOT / "CHANGELOG.md", documents / "changelog")
    shutil.copy(HERE / "debian/copyright", documents)
    for path in (documents / "changelog", *(root / "usr/share/man/man1").iterdir()):
        # No time, no name: the same tree makes the same package.
        packed = gzip.compress(path.read_bytes(), 9, mtime=0)
        path.with_name(f"{path.name}.gz").write_bytes(packed)
        path.unlink()


def add_control(root):
    """Add what dpkg reads."""
    size = sum(path.lstat().st_size for path in root.rglob("*")) // 1024
    (root / "DEBIAN").mkdir()
    for name in ("postinst", "prerm"):
        shutil.copy(HERE / "debian" / name, root / "DEBIAN")
        (root / "DEBIAN" / name).chmod(0o755)
    control = (HERE / "debian/control").read_text()
    control = control.replace("@VERSION@", version()).replace("@SIZE@", str(size))
    (root / "DEBIAN/control").write_text(control)


def main():
    """Make it."""
    os.umask(0o022)
    output = Path(sys.argv[1])
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="deb-") as directory:
        root = Path(directory, "root")
        root.mkdir()
        add_package(root)
        add_command(root)
        add_documents(root)
        run("chmod", "-R", "u+rwX,go+rX,go-w", root)
        add_control(root)
        run("dpkg-deb", "--root-owner-group", "--build", root, output)


if __name__ == "__main__":
    main()
