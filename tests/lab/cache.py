# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the lab keeps what is costly to make, and how it is made only once."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

__all__ = ("build_once", "cache_dir", "locked")


def cache_dir() -> Path:
    """Return the lab's directory: VMAP_LAB_CACHE, or one in the user's cache."""
    chosen = os.environ.get("VMAP_LAB_CACHE")
    if chosen:
        return Path(chosen)
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user_cache) / "drgn-vmap-lab"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time work on ``path``, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_once(target: Path, build: Callable[[Path], None], replaces: str = "") -> Path:
    """
    Return ``target``, after ``build`` has made it if it was not there.

    ``build`` gets the path of an unfinished file or directory, which is renamed
    to ``target`` once complete: an interrupted build leaves no half a target.

    :param replaces: a pattern of older targets' names, which a new one replaces.
    """
    if target.exists():
        return target
    with locked(target):
        if not target.exists():
            workspace = target.parent / f".{target.name}.unfinished"
            shutil.rmtree(workspace, ignore_errors=True)
            workspace.mkdir()
            try:
                build(workspace / target.name)
                for old in _visible(target.parent, replaces):
                    _delete(old)
                (workspace / target.name).rename(target)
            finally:
                shutil.rmtree(workspace)
    return target


def _visible(directory: Path, pattern: str) -> list[Path]:
    """Return what matches and is neither a lock nor unfinished."""
    found = directory.glob(pattern) if pattern else ()
    return [path for path in found if not path.name.startswith(".")]


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
