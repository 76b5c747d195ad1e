# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Vmcores by name
---------------

For what looks at more targets than the one that drgn opened.
"""

import logging
from contextlib import contextmanager
from typing import Iterator

from drgn import FaultError, MissingDebugInfoError, Program

from ..errors import SymbolsError, TargetError
from ..model.areas import Snapshot
from .debug_info import ensure_types
from .faults import faults_named
from .snapshot import take_snapshot

__all__ = ("snapshot_of_vmcore",)


def snapshot_of_vmcore(name: str) -> Snapshot:
    """
    Open a vmcore, or a slice, and return its areas.

    :raises TargetError: if it is none, or what it has cannot be read.
    :raises SymbolsError: if nothing tells its types and names.
    """
    with _quiet(), faults_named():
        prog = _open(name)
        _ensure_types(prog)
        return take_snapshot(prog)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what drgn warns of to itself: what matters is raised."""
    logger = logging.getLogger("drgn")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _open(name: str) -> Program:
    prog = Program()
    try:
        prog.set_core_dump(name)
    except (OSError, ValueError, FaultError) as e:
        why = str(e).strip()
        raise TargetError(f"{name} cannot be opened ({why}): give a vmcore") from e
    return prog


def _ensure_types(prog: Program) -> None:
    # Most vmcores have all of it themselves, and debug info takes its time.
    try:
        ensure_types(prog)
    except SymbolsError:
        try:
            prog.load_default_debug_info()
        except MissingDebugInfoError:
            pass
        ensure_types(prog)
