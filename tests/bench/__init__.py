# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How fast it is, beside others on the same vmcore. Not tests: clocks are noisy."""
