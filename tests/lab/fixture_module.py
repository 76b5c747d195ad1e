# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fixture module in a guest."""

from __future__ import annotations

import time

from . import modules
from .guest import Guest

__all__ = ("load_fixture_module",)

FIXTURE_MODULE = "/tmp/vmap_lab.ko"
SETTLING_SECONDS = 2


def load_fixture_module(guest: Guest) -> None:
    """Build the fixture module for a guest's kernel, load it, and let it settle."""
    guest.put(modules.build(guest.kernel), FIXTURE_MODULE)
    loaded = guest.run(f"insmod {FIXTURE_MODULE}")
    assert loaded.status == 0, loaded.stderr
    # The kernel frees the module's init text a moment later, and purges for it.
    time.sleep(SETTLING_SECONDS)
