# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fixture module, built for each kernel of the lab."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from . import chroot
from .cache import build_once
from .kernel import Kernel

__all__ = ("build",)

NAME = "vmap_lab"
SOURCES = tuple(
    Path(__file__).parent / "module" / name for name in ("Kbuild", f"{NAME}.c")
)


def build(kernel: Kernel) -> Path:
    """
    Return ``vmap_lab.ko`` for a kernel of the lab, built once for each source text.

    :raises chroot.ChrootError: if it does not build; what make printed is in the text.
    """
    recipe = hashlib.sha256(kernel.release.encode())
    for file in (Path(__file__), *SOURCES):
        recipe.update(file.read_bytes())
    return build_once(
        kernel.directory / f"{NAME}-{recipe.hexdigest()[:12]}.ko",
        lambda module: _build(kernel, module),
    )


def _build(kernel: Kernel, module: Path) -> None:
    with TemporaryDirectory(dir=module.parent) as workspace:
        for source in SOURCES:
            shutil.copy(source, workspace)
        make = ["make", "-C", f"/lib/modules/{kernel.release}/build"]
        make += [*kernel.make_options, f"M={chroot.WORK}", "modules"]
        chroot.run_in_tree(kernel.module_tree, Path(workspace), *make)
        shutil.move(Path(workspace) / f"{NAME}.ko", module)
