# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What was left out
-----------------

makedumpfile leaves pages of zeros out of a vmcore, and pages that nobody wants, such as
those of processes. In its ELF files nothing tells one from the other, and drgn reads zeros
of both. What a page is used for tells: of what the kernel itself uses, nothing but zeros is
left out.
"""

from contextlib import suppress
from functools import cached_property
from typing import Callable, Sequence

from ..._numpy import Array, U64Array, np
from ...errors import VmapError
from ...model.mem_usage import PageClass
from ..types.torn_reads import join_ranges
from .dumped import bounds, dumped_ranges, named_ranges, within
from .page_classes import PageClassifier

__all__ = ("LeftOut",)


class LeftOut:
    """
    The pages that are not in a vmcore, though drgn reads zeros of them.

    :param files: Those that it may be read from; none of a running kernel.
    :param classifier: Makes what finds the class of a page.
    """

    def __init__(
        self,
        files: Sequence[str],
        page_size: int,
        classifier: Callable[[], PageClassifier],
    ) -> None:
        named = named_ranges(files)
        there = dumped_ranges(files) if named else []
        self._named = bounds(join_ranges(sorted(named)))
        self._there = bounds(join_ranges(sorted(there)))
        self._page_size = page_size
        self._make_classifier = classifier

    def among(self, phys: U64Array) -> Array:
        """
        Return which of some pages may have held anything but what drgn reads.

        :param phys: Physical addresses where they begin.
        """
        lost = within(self._named, phys) & ~within(self._there, phys)
        rows = np.flatnonzero(lost)
        if len(rows):
            frames = phys[rows] // np.uint64(self._page_size)
            with suppress(VmapError):
                lost[rows] = self._classifier.used_for(frames) != PageClass.KERN_DATA
        return lost

    @cached_property
    def _classifier(self) -> PageClassifier:
        return self._make_classifier()
