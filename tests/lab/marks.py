# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which kernels a test runs on, if not on all of Debian's."""

from __future__ import annotations

import pytest

from .kernels import BUILT_KERNELS, KERNELS

__all__ = ("on_all_kernels", "on_built_kernels")

on_all_kernels = pytest.mark.kernels(*KERNELS, *BUILT_KERNELS)
"""Runs a test on the kernels built here as well."""

on_built_kernels = pytest.mark.kernels(*BUILT_KERNELS)
"""Runs a test on those alone, for what no other kernel shows."""
