# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What is expected wherever it is tested, on samples, on vmcores or live: one file a subject,
each against truth from outside the code.
"""
