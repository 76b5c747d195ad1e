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
from typing import TYPE_CHECKING, Any

__all__ = ("Array", "Record", "U64Array", "np")

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
