# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Progress of long work, on standard error: on a terminal only, and only of work that
takes longer than a second.
"""

import sys
import time
from contextlib import suppress
from typing import Optional

__all__ = ("Progress",)

_QUIET_SECONDS = 1.0
_SECONDS_BETWEEN = 0.2


class Progress:
    """
    A line that says how far the work is: a context manager that wipes it in the end.

    :param verb: Verb whose work it is.
    :param unit: What is counted, such as ``pages``.
    """

    def __init__(self, verb: str, unit: str) -> None:
        self._verb, self._unit = verb, unit
        self._next = time.monotonic() + _QUIET_SECONDS
        self._width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            self._show("")

    def update(self, done: int, total: Optional[int] = None) -> None:
        """Tell how much is done, of how much if that is known."""
        now = time.monotonic()
        if now >= self._next and sys.stderr.isatty():
            self._next = now + _SECONDS_BETWEEN
            so_far = f"{done:,}" if total is None else f"{done:,} of {total:,}"
            self._show(f"vmap {self._verb}: {so_far} {self._unit}")

    def _show(self, text: str) -> None:
        line, end = "\r" + text.ljust(self._width), "" if text else "\r"
        # A terminal that is gone is no reason to end the work.
        with suppress(OSError):
            print(line, end=end, file=sys.stderr, flush=True)
        self._width = len(text)
