# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
drgn_vmap shows Linux's vmalloc world: on live kernels and in vmcores, truthfully
and fast. Each verb is a script, a command inside drgn (``%vmap``), and data:

    >>> from drgn_vmap import describe, take_snapshot
    >>> snapshot = take_snapshot()
    >>> for area in describe(snapshot):
    ...     print(hex(area.start), area.kinds, area.caller)

For objects to explore by hand see :mod:`drgn_vmap.helpers`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analyses.describe import describe
    from .api import (
        load_module_types,
        load_types,
        take_snapshot,
        use_direct_reads,
    )
    from .errors import VmapError
    from .model.areas import (
        Area,
        AreaTable,
        Kernel,
        Problem,
        ProblemKind,
        Snapshot,
        State,
    )

__version__ = "0.1.0"

# Where each public name lives. They are imported when first used, because drgn
# imports this package at every start, and numpy takes its time.
_HOMES = {
    "Area": "model.areas",
    "AreaTable": "model.areas",
    "Kernel": "model.areas",
    "Problem": "model.areas",
    "ProblemKind": "model.areas",
    "Snapshot": "model.areas",
    "State": "model.areas",
    "VmapError": "errors",
    "describe": "analyses.describe",
    "load_module_types": "api",
    "load_types": "api",
    "take_snapshot": "api",
    "use_direct_reads": "api",
}

__all__ = (
    "Area",
    "AreaTable",
    "Kernel",
    "Problem",
    "ProblemKind",
    "Snapshot",
    "State",
    "VmapError",
    "__version__",
    "describe",
    "load_module_types",
    "load_types",
    "take_snapshot",
    "use_direct_reads",
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
