# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab: Debian's own kernels under QEMU, for tests and for a person."""
