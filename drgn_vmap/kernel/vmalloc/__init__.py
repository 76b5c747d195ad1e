# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a target's memory through drgn and makes records of it; prints nothing."""
