# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Signals that end a command: from a terminal, by hanging up, by whoever stops services.

Where there is nothing to clear up, they do so by themselves.
"""

import signal
import threading
from contextlib import contextmanager
from typing import Callable, Iterator

__all__ = ("ended_by_signals",)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_by_signals(clear_up: Callable[[], None]) -> Iterator[None]:
    """
    Let signals raise what ends a command, rather than end the process on the spot.

    :param clear_up: What to do before. It is done for each signal: several may come
        at once, and one of them may be lost where Python cannot raise anything.
    :raises KeyboardInterrupt: for SIGINT: a session goes on.
    :raises SystemExit: for others, with the status that a shell says of them.
    """

    def end(number: int, frame: object) -> None:
        clear_up()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    # Python lets no other thread do this.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored, as under nohup, stays so; None is a handler not of Python's.
    known = {number: signal.getsignal(number) for number in _SIGNALS}
    known = {n: old for n, old in known.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in known:
            signal.signal(number, end)
        yield
    finally:
        for number, old in known.items():
            signal.signal(number, old)
