# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Errors
------

What stops a command. Each message is one line that says what is wrong and,
after a colon, what to do about it; commands print it and exit with status 2.
Damage that does not stop a command is no error but a
:class:`~drgn_vmap.model.areas.Problem`.
"""

__all__ = (
    "SymbolsError",
    "TargetError",
    "UsageError",
    "VmapError",
)


class VmapError(Exception):
    """The command cannot answer."""


class UsageError(VmapError):
    """The command was called in a way that makes no sense."""


class TargetError(VmapError):
    """The target is of a kind that the command cannot read."""


class SymbolsError(VmapError):
    """Types or names that the command needs are not known."""
