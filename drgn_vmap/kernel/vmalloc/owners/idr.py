# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
IDRs
----

What a ``struct idr`` has (include/linux/idr.h), the kernel's table of things by their ID.
"""

from ...._numpy import U64Array, np
from ...target import Target
from ...types.structs import need_offset, record_dtype
from ..racing import tries
from ..trees import read_xarrays

__all__ = ("idr_entries",)


def idr_entries(target: Target, address: int) -> U64Array:
    """
    Return the pointers that an idr has, ascending.

    :param address: Of the ``struct idr``.
    :raises SymbolsError: if what it is made of is not known.
    """
    head = address + need_offset(target.prog, "struct idr", "idr_rt.xa_head")
    node = record_dtype(target.prog, "struct xa_node", {"slots": "slots[]"})
    heads = np.array([head], np.uint64)
    entries, _, _ = read_xarrays(target.memory, heads, node, tries(target.kernel))
    return np.unique(entries)
