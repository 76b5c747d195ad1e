# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Faults
------

What is unreadable here and there is counted and named where it is read. Where the
variables themselves that all hangs on are unreadable, there is nothing to show.
"""

from contextlib import contextmanager
from typing import Iterator

from drgn import FaultError

from ..errors import TargetError

__all__ = ("faults_named",)


@contextmanager
def faults_named() -> Iterator[None]:
    """
    Say what to do about memory that is not there.

    :raises TargetError: for a FaultError.
    """
    try:
        yield
    except FaultError as e:
        raise TargetError(
            f"the variables that everything hangs on cannot be read ({e}): "
            "take a vmcore that is neither damaged nor cut short"
        ) from e
