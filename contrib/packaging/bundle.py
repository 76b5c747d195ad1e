#!/usr/bin/env python3
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Make one file of the package and the packages that it needs and that are pure Python:

    bundle.py vmap.pyz

It runs with the Python of a host, from 3.8 on, its numpy and its drgn, and says so if it
has none; reading saved texts takes numpy alone. pip fetches what goes in.
"""

import shutil
import subprocess
import sys
import zipapp
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
PURE = ("tabulate<0.10",)
"""The last that Python 3.8 runs."""

#: Older Pythons can parse this, and not the package.
MAIN = """\
import sys

if sys.version_info < (3, 8):
    sys.exit("vmap: Python 3.8 or newer is needed: start it as python3.9 vmap.pyz, say")

from drgn_vmap.commands.command_line import main

main()
"""

def install(into, *what):
    """Have pip install something, without what it depends on."""
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    command = [*pip, "install", "--no-deps", "--no-compile", "--target", into, *what]
    subprocess.run(command, check=True)

def main():
    """Make it."""
    output = Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="bundle-") as directory:
        for name in PURE:
            install(directory, name)
        # Its licence comes with its metadata.
        shutil.copytree(
            ROOT / "drgn_vmap",
            Path(directory, "drgn_vmap"),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        shutil.copytree(ROOT / "LICENSES", Path(directory, "LICENSES"))
        shutil.rmtree(Path(directory, "bin"), ignore_errors=True)
        Path(directory, "__main__.py").write_text(MAIN, encoding="utf-8")
        interpreter = "/usr/bin/env python3"
        zipapp.create_archive(directory, output, interpreter, compressed=True)
    output.chmod(0o755)

if __name__ == "__main__":
    main()
