# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The tests: ``unit`` needs no kernel, ``samples`` has some of real ones, ``lab`` boots them.

What they share is in ``expect``, ``fakes`` and the modules here: no test imports another.
"""
