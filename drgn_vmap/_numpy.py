# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
numpy, imported when something of it is first used, because it takes 70 ms, and so that
it leaves no trace in what is measured.

OpenBLAS starts a thread a CPU when numpy is imported, and each thread's kernel
stack is a vmalloc area of the very list that a live run prints. One thread is
asked for during the import only, so other code keeps its own settings.
"""

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Optional, Tuple

__all__ = ("Array", "Record", "U64Array", "np", "spread")

_THREADS = "OPENBLAS_NUM_THREADS"


class _Numpy(ModuleType):
    """Stands for numpy, and has all that numpy has once something was asked for."""

    def __getattr__(self, name: str) -> Any:
        before = os.environ.get(_THREADS)
        os.environ[_THREADS] = "1"
        try:
            numpy = import_module("numpy")
        finally:
            if before is None:
                del os.environ[_THREADS]
            else:
                os.environ[_THREADS] = before
        # The next time, this function is not called.
        vars(self).update(vars(numpy))
        return getattr(numpy, name)


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    """Of any element type: structs, truth values, indices."""
    Record = np.dtype[Any]
    """The layout of a struct."""
    U64Array = NDArray[np.uint64]
else:
    np = _Numpy("numpy")
    Array = Record = U64Array = Any


def spread(
    counts: Array, begin: int = 0, end: Optional[int] = None
) -> Tuple[Array, Array]:
    """
    Go through the elements of several ranges, one range after the other.

    :param counts: How many elements each range has.
    :param begin: Of all elements, the first that is wanted.
    :param end: The first that no longer is; None if all are.
    :return: The index of each element's range, and its own index in that.
    """
    counts = counts.astype(np.int64)
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    if begin == 0 and end is None:
        row = np.repeat(np.arange(len(counts)), counts.astype(np.intp))
        return row, np.arange(total) - (ends - counts)[row]
    at = np.arange(begin, total if end is None else min(end, total))
    row = np.searchsorted(ends, at, side="right")
    return row, at - (ends - counts)[row]
