# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Modules
-------

Each part of a module is an area.
"""

from typing import Iterator

from ...._numpy import np
from ....model.owners import Owner, OwnerKind
from ..callers import module_parts
from .busy import NONE, Claim
from .search import Search

__all__ = ("modules",)


def modules(search: Search) -> Iterator[Claim]:
    """Yield the modules whose parts areas are."""
    parts = [*module_parts(search.target)]
    begins = np.array([part.start for part in parts], np.uint64)
    # Since Linux kernel commit 2e45474ab14f ("execmem: add support for cache of large
    # ROX pages") (in v6.13), several may lie in one area.
    rows = search.busy.holding(begins)
    for part, row in zip(parts, rows.tolist()):
        if row != NONE:
            yield row, Owner(
                OwnerKind.MODULE, part.module, None, part.name, "module's memory"
            )
