# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What memory is used for
-----------------------

Adds pages up by class, and those apart that vmalloc areas map.
"""

from typing import Dict, Optional

from .._numpy import Array, U64Array, np
from ..model.mem_usage import PageClass

__all__ = ("PageTally",)


class PageTally:
    """
    Adds up pages, some at a time.

    :param mapped: The page frames that vmalloc areas map, ascending; None if they are
        not known.
    """

    def __init__(self, mapped: Optional[U64Array]) -> None:
        self._mapped = mapped
        self._pages, self._by_vmalloc = np.zeros((2, len(PageClass)), np.int64)

    def add(self, first: int, classes: Array) -> None:
        """
        Add pages.

        :param first: Frame of the first one.
        :param classes: A :class:`PageClass` for each page from there on.
        """
        self._pages += _counts(classes)
        if self._mapped is not None:
            ends = np.array([first, first + len(classes)], np.uint64)
            begin, end = np.searchsorted(self._mapped, ends)
            at = (self._mapped[begin:end] - np.uint64(first)).astype(np.intp)
            self._by_vmalloc += _counts(classes[at])

    @property
    def total(self) -> int:
        """Pages that were added."""
        return int(self._pages.sum())

    @property
    def pages(self) -> Dict[PageClass, int]:
        """Pages by class."""
        return _by_class(self._pages)

    @property
    def mapped(self) -> Optional[Dict[PageClass, int]]:
        """Those of them that vmalloc areas map."""
        return None if self._mapped is None else _by_class(self._by_vmalloc)


def _counts(classes: Array) -> Array:
    return np.bincount(classes, minlength=len(PageClass))


def _by_class(counts: Array) -> Dict[PageClass, int]:
    return dict(zip(PageClass, counts.tolist()))
