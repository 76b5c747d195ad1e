# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python3 -m drgn_vmap`` is the command ``vmap``."""

from .commands.command_line import main

__all__ = ()

if __name__ == "__main__":
    main()
