# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Every verb on damaged vmcores, argument lists and files that nobody made on purpose.

    make fuzz SECONDS=600 SEED=1
    make fuzz REPLAY=1-4711

The samples are opened once. Each input is tried in a process that is forked off, whose
writes to a sample are its own, within limits of time and memory.
"""
