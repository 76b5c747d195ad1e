# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a target's bytes mean: makes records of its vmalloc state."""
