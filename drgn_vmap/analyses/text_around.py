# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What stands around lines
------------------------

Logs, grep and mailers put a time, a name or a quote before each line, and some systems
end it with CR LF. What is known here does not keep a line from being read in bulk. It is
told from the rest of a line that was wrapped, which is for
:mod:`drgn_vmap.analyses.text_mending`, by how it ends.
"""

import re
from typing import Iterable, List, Tuple

__all__ = ("AROUND", "CR", "INDENT", "PREFIX", "prefix_bits")

INDENT = "an indent"
PREFIX = "something before it"
CR = "CR at the end"
AROUND = (INDENT, PREFIX, CR)
"""Bits of :attr:`~drgn_vmap.analyses.text_lines.Lines.around`."""

# Words of a line end with digits, small letters, "=", or the bracket behind a module's
# name, in which there is neither a blank nor a dot. Each character is looked at a few
# times at most, however long a line is.
_BEFORE = re.compile(
    rb"([ \t]+)|[\t -~]*(?:[!-\-/:-<>-@\[\\^`{-~][ \t]*|[A-Z_.][ \t]+"
    rb"|\[[\w-]*[^\w\[\]-][^\[\]]*\][ \t]*)"
)
_NOT_KNOWN, _INDENT, _PREFIX = 0, 1 << AROUND.index(INDENT), 1 << AROUND.index(PREFIX)


def prefix_bits(data: bytes, places: Iterable[Tuple[int, int]]) -> List[int]:
    """
    Return what stands at places, as bits of :data:`AROUND`; 0 is what can be anything.

    :param places: Where it begins, and where the addresses of its line do.
    """
    return [_bit(data[begin:end]) for begin, end in places]


def _bit(before: bytes) -> int:
    found = _BEFORE.fullmatch(before)
    if not found:
        return _NOT_KNOWN
    return _INDENT if found[1] else _PREFIX
