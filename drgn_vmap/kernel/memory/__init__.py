# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a target's bytes come from; knows no vmalloc."""
