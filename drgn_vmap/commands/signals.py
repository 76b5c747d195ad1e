# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Signals that end a command: from a terminal, by hanging up, by whoever stops services.
"""

import signal
import threading
from contextlib import contextmanager
from typing import Callable, Iterator

__all__ = ("cleared_up_by_signals",)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDING = (signal.SIG_DFL, signal.default_int_handler)
"""Those who handle them otherwise, or ignore them as nohup does, go on as they were."""


@contextmanager
def cleared_up_by_signals(clear_up: Callable[[], None]) -> Iterator[None]:
    """
    Let signals clear up before they end the process, or a command of a session.

    :raises KeyboardInterrupt: for SIGINT; the others end the process.
    """
    # Python lets no other thread do this.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = {number: signal.getsignal(number) for number in _SIGNALS}
    is_interrupted = False

    def end(number: int, frame: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        clear_up()
        signal.signal(number, known[signal.Signals(number)])
        signal.raise_signal(number)

    try:
        for number, handler in known.items():
            if handler in _ENDING:
                signal.signal(number, end)
        yield
    finally:
        for number, handler in known.items():
            if handler in _ENDING:
                signal.signal(number, handler)
        # Raised in a callback, say of a weak reference, it goes no further by itself.
        if is_interrupted:
            raise KeyboardInterrupt
