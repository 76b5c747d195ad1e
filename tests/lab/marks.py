# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which kernels a test runs on, if not on all of Debian's."""

from __future__ import annotations

import os
from typing import Collection

import pytest

from .kernels import ALL_KERNELS, BUILT_KERNELS, KERNELS, UNUSUAL_KERNELS

__all__ = ("SLOW_KERNELS", "on_all_kernels", "on_built_kernels", "slow")

on_all_kernels = pytest.mark.kernels(*KERNELS, *BUILT_KERNELS, *UNUSUAL_KERNELS)
"""Runs a test on all that is built here as well."""

on_built_kernels = pytest.mark.kernels(*BUILT_KERNELS)
"""Runs a test on those alone, for what no other kernel shows."""

slow = pytest.mark.slow
"""
Runs a test on the newest kernel alone, unless all are asked for: it takes long, and what it
shows hardly depends on the kernel.
"""

EVERYWHERE = os.environ.get("VMAP_SLOW") == "everywhere"
SLOW_KERNELS: Collection[str] = ALL_KERNELS if EVERYWHERE else ("7.3",)
