# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Model
-----

What was read from a kernel, as plain data: no drgn object lives here, so
analyses and renderers run without a kernel and results compare equal.
Addresses are plain integers, sizes are in bytes unless the name says ``_pages``.

Each file holds the records of one subject, and who needs them names it: making a
dataclass takes half a millisecond, and no verb needs them all.
"""
