# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Standard output and standard error
----------------------------------

Both may be closed, full, of an old encoding, or a pipe that nobody reads any more.
None of that is a reason for a traceback, and what becomes of standard error changes
nothing else.
"""

import io
import os
import select
import sys
from contextlib import (
    ExitStack,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from typing import Iterator, TextIO

from ..render.escape import printable

__all__ = ("give_up_the_rest", "is_output_read", "tell", "usable_streams")


@contextmanager
def usable_streams() -> Iterator[None]:
    """
    Make do with any standard streams: closed ones take everything, and what an old
    encoding lacks is escaped. Afterwards they are as they were: a session goes on.
    """
    with ExitStack() as stack:
        if sys.stdout is None or sys.stdout.closed:
            stack.enter_context(redirect_stdout(_nowhere(stack)))
        # print() to a standard error that is None would print to standard output.
        if sys.stderr is None or sys.stderr.closed:
            stack.enter_context(redirect_stderr(_nowhere(stack)))
        for stream in (sys.stdout, sys.stderr):
            stack.enter_context(_escaping(stream))
        yield


def _nowhere(stack: ExitStack) -> TextIO:
    return stack.enter_context(open(os.devnull, "w", encoding="utf-8"))


@contextmanager
def _escaping(stream: TextIO) -> Iterator[None]:
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        # This flushes, and whoever wrote has been told by then that it cannot be.
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)


def tell(who: str, what: str) -> None:
    """Tell a person one line on standard error, if anybody is there to read it."""
    with suppress(OSError):
        print(f"{who}: {printable(what)}", file=sys.stderr, flush=True)


def is_output_read() -> bool:
    """Whether standard output has a reader, which a pipe may have no more."""
    poll = select.poll()
    # Asked for nothing, it tells of errors and hang-ups alone.
    poll.register(sys.stdout, 0)
    return not poll.poll(0)


def give_up_the_rest() -> None:
    """
    Drop what the standard streams do not take: Python would write it again at exit,
    complain, and change the exit status. Only for who exits now: they stay shut.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
