# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a target's names and types come from; knows no vmalloc."""
