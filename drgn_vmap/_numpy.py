# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
numpy, imported so that it leaves no trace in what is measured.

OpenBLAS starts a thread a CPU when numpy is imported, and each thread's kernel
stack is a vmalloc area of the very list that a live run prints. One thread is
asked for during the import only, so other code keeps its own settings.
"""

import os

__all__ = ("Array", "Record", "U64Array", "np")

_THREADS = "OPENBLAS_NUM_THREADS"
_before = os.environ.get(_THREADS)
os.environ[_THREADS] = "1"
try:
    import numpy as np
finally:
    if _before is None:
        del os.environ[_THREADS]
    else:
        os.environ[_THREADS] = _before

from typing import Any  # noqa: E402

from numpy.typing import NDArray  # noqa: E402

Array = NDArray[Any]
"""Of any element type: structs, truth values, indices."""
Record = np.dtype[Any]
"""The layout of a struct."""
U64Array = NDArray[np.uint64]
