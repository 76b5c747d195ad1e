# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pure functions from a Snapshot to a result: no drgn, no input, no output."""
