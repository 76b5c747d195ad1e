# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Model
-----

What was read from a kernel, as plain data: no drgn object lives here, so
analyses and renderers run without a kernel and results compare equal.
Addresses are plain integers, sizes are in bytes unless the name says ``_pages``.

Each file holds the records of one subject. All of them can be had from here, and
only what is asked for is loaded: making a dataclass takes half a millisecond, and
no verb needs them all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .areas import *  # noqa: F401,F403
    from .blocks import *  # noqa: F401,F403
    from .core import *  # noqa: F401,F403
    from .inspection import *  # noqa: F401,F403
    from .kcore import *  # noqa: F401,F403
    from .pictures import *  # noqa: F401,F403
    from .places import *  # noqa: F401,F403
    from .saved import *  # noqa: F401,F403
    from .series import *  # noqa: F401,F403
    from .space import *  # noqa: F401,F403
    from .sums import *  # noqa: F401,F403

_NAMES = {
    "areas": (
        "VM_FLAGS",
        "VMAP_RAM",
        "VMAP_BLOCK",
        "vm_flag",
        "State",
        "Problem",
        "VmallocinfoRules",
        "PointerPolicy",
        "Kernel",
        "Area",
        "AreaTable",
        "Snapshot",
    ),
    "blocks": (
        "NO_CPU",
        "BlockTable",
        "Blocks",
        "PageRange",
        "Block",
        "PageState",
        "CpuBlocks",
        "BlockTotals",
    ),
    "space": (
        "VmallocRange",
        "LazyPages",
        "Gap",
        "SizeClass",
        "Gaps",
        "InTheWay",
        "Fit",
    ),
    "sums": (
        "PageCounter",
        "Sum",
        "Top",
        "Reconciliation",
    ),
    "inspection": (
        "AreaTree",
        "VmPages",
        "Inspection",
        "Verdict",
        "Failure",
        "Check",
    ),
    "series": (
        "SeriesSigns",
        "PatchVerdict",
        "Strength",
        "Patch",
        "SeriesVerdict",
        "Finding",
        "Verification",
    ),
    "kcore": (
        "Translation",
        "KcoreRules",
        "Look",
        "PageClass",
        "PageFinding",
        "CheckedArea",
        "KcoreCheck",
        "KcoreAnswer",
    ),
    "places": (
        "Spot",
        "Place",
    ),
    "saved": (
        "SavedAreas",
        "SavedText",
        "CallerChange",
        "Difference",
    ),
    "pictures": (
        "Overview",
        "CELLS_A_ROW",
        "Stretch",
        "BlockMaps",
        "Report",
    ),
    "core": ("CoreHead",),
}
"""What each file holds."""

_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = tuple(sorted(_HOMES))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    # The next time, it is found without this function.
    globals()[name] = found
    return found
