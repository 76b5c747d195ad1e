# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Packages that are not installed, and what distributions call them.
"""

import shutil

__all__ = ("missing_text",)

_INSTALLERS = ("apt-get", "dnf", "zypper")
_OTHER_NAMES = {("dnf", "drgn"): "drgn"}
"""Where a Python package is not called python3 and its name."""
_INSTEAD = {"siphash24": "hashed addresses need it: take --pointers raw, or "}


def missing_text(package: str) -> str:
    """Return that a Python package is not installed, and how to get it."""
    installer = next(filter(shutil.which, _INSTALLERS), _INSTALLERS[0])
    name = _OTHER_NAMES.get((installer, package), f"python3-{package}")
    return (
        f"the Python package {package} is not installed: {_INSTEAD.get(package, '')}"
        f"try {installer} install {name}, or pip install {package}"
    )
