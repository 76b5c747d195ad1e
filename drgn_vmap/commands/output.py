# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Where -o writes
---------------

The one door for it: a whole new file or the old one, whatever ends the verb.
"""

import argparse
import os
import secrets
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from typing import IO, Iterator, Optional, Sequence

from ..errors import UsageError
from .signals import cleared_up_by_signals

__all__ = ("add_output", "whole_file")

_STANDARD_OUTPUT = "-"
_STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr")


def add_output(
    parser: argparse.ArgumentParser, what: str, required: bool = True
) -> None:
    """Add -o, which says where to write; required of what is no text for a terminal."""
    parser.add_argument(
        "-o",
        metavar="FILE",
        dest="output",
        required=required,
        help=f"where to write the {what}, - for standard output; a file that is there "
        "is replaced once all is written",
    )


@contextmanager
def whole_file(
    name: str, sources: Sequence[str], is_memory: bool = False
) -> Iterator[IO[bytes]]:
    """
    Give a file to write and seek in, that takes its name only once all is written.

    A symlink stays, and what it leads to is replaced.

    :param name: Of the file; ``-`` is standard output.
    :param sources: Names of the files that the verb reads.
    :param is_memory: Whether it holds kernel memory: then only its owner may read it.
        Otherwise who may is said by the file that is replaced, or by the umask.
    :raises UsageError: if it cannot be written, or if something stands there that is
        no file to replace.
    """
    if name == _STANDARD_OUTPUT:
        with _all_at_once(is_memory) as file:
            yield file
        return
    old = _standing(name, sources)
    try:
        with _replacing(os.path.realpath(name), old, is_memory) as file:
            yield file
    except OSError as e:
        raise _cannot_write(name, e.strerror or e) from e


@contextmanager
def _all_at_once(is_memory: bool) -> Iterator[IO[bytes]]:
    """Give a file that goes to standard output once all is written."""
    if is_memory and sys.stdout.isatty():
        raise UsageError("standard output is a terminal: name a file, or pipe it on")
    # In a session it can be anything that takes text.
    output = getattr(sys.stdout, "buffer", None)
    if output is None:
        raise UsageError("standard output takes text alone: name a file")
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(file, output)


def _standing(name: str, sources: Sequence[str]) -> Optional[os.stat_result]:
    """
    Return what has that name, None if nothing has.

    :raises UsageError: if no file can take its place.
    """
    if not os.path.basename(name):
        raise UsageError(f"{name!r} names no file: choose another place")
    try:
        found = os.stat(name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise _cannot_write(name, getattr(e, "strerror", e)) from e
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{name} is a directory: name a file")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(
            f"{name} is no file to replace: name one, or - for standard output"
        )
    if any(_is_the_same(found, source) for source in sources):
        raise UsageError(f"{name} is itself what is read: choose another file")
    if any(_is_the_same(found, stream) for stream in _STREAMS):
        raise UsageError(
            f"{name} is open as a standard stream: choose another file, or - for "
            "standard output"
        )
    return found


def _is_the_same(found: os.stat_result, name: str) -> bool:
    try:
        return os.path.samestat(found, os.stat(name))
    except (OSError, ValueError):
        return False


@contextmanager
def _replacing(
    path: str, old: Optional[os.stat_result], is_memory: bool
) -> Iterator[IO[bytes]]:
    """Give a file beside another, whose place it takes in the end."""
    # As short as it is, it fits beside the longest name.
    temporary = os.path.join(os.path.dirname(path), f".vmap-{secrets.token_hex(8)}")
    keeps = None if is_memory else old
    mode = 0o600 if is_memory else 0o666 if old is None else old.st_mode & 0o777

    def remove() -> None:
        with suppress(OSError):
            os.unlink(temporary)

    try:
        # Whatever is raised, and wherever: the name was known before the file was.
        with cleared_up_by_signals(remove), open(
            temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)
        ) as file:
            if keeps is not None:
                _as_of(keeps, file.fileno())
            yield file
            file.flush()
            # Some file systems tell only now that the disk is full.
            os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        remove()


def _as_of(old: os.stat_result, descriptor: int) -> None:
    """Let a file be read and written by whom another could be, as far as we may."""
    with suppress(PermissionError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o777)


def _cannot_write(name: str, why: object) -> UsageError:
    return UsageError(f"{name} cannot be written ({why}): choose another place")
