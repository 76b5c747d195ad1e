# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Arrays of pages
---------------

Of a large area, the array of its pages is an area itself.
"""

from typing import Iterator

from ...._numpy import np
from ....model.owners import Owner, OwnerKind
from ..area_pages import rows_with_pages
from .busy import NONE, Claim
from .search import Search

__all__ = ("page_arrays",)


def page_arrays(search: Search) -> Iterator[Claim]:
    """Yield the areas whose arrays of pages areas are."""
    areas = search.busy.areas
    mapped = rows_with_pages(search.target, areas)
    rows = search.busy.starting(areas.page_array[mapped])
    for at in np.flatnonzero(rows != NONE).tolist():
        start = int(areas.start[mapped[at]])
        yield int(rows[at]), Owner(
            OwnerKind.PAGE_ARRAY, f"{start:#x}", None, "its pages", "vm_struct.pages"
        )
