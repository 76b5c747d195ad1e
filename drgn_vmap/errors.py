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
    "DrgnError",
    "Fault",
    "GET_DEBUG_INFO",
    "SymbolsError",
    "TargetError",
    "UsageError",
    "VmapError",
)

GET_DEBUG_INFO = "install the kernel's debug info, or name its vmlinux with -s"
"""What to do about most that is not known."""


class VmapError(Exception):
    """The command cannot answer."""


class UsageError(VmapError):
    """The command was called in a way that makes no sense."""


class DrgnError(VmapError):
    """The installed drgn cannot do what is needed."""


class TargetError(VmapError):
    """The target is of a kind that the command cannot read."""


class Fault(TargetError):
    """
    Memory that everything else hangs on cannot be read, or holds what cannot be.

    :param why: What was read where, and what came of it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the variables that everything hangs on cannot be read ({why}): "
            "take a vmcore that is neither damaged nor cut short"
        )
        self.why = why


class SymbolsError(VmapError):
    """Types or names that the command needs are not known."""
