# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a target's memory through drgn and makes records of it; prints nothing."""

from .._drgn import check_drgn

__all__ = ()

# Whatever is here needs it, and most of it could not even be imported.
check_drgn()
