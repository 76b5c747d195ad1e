# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a kernel carries
---------------------

Its own names (kallsyms) and types (BTF), in its memory, and what it tells those who read
that (VMCOREINFO). They do not change as long as the kernel runs, and drgn keeps a finder
of them as long as the program lives: so they are read once a program, by whoever asks
first, and this is the one thing that stays in ``Program.cache``.
"""

from functools import cached_property
from pathlib import Path
from typing import Optional

from drgn import Program, ProgramFlags

from ...errors import SymbolsError
from ..doors import door
from .btf import BtfTypes
from .btf_data import BtfData
from .kallsyms import Kallsyms, Tables, from_proc, from_tables, known_tables
from .kallsyms_search import search_tables
from .vmcoreinfo import Vmcoreinfo

__all__ = ("Carried", "carried_by")

_KEY = "drgn_vmap"
_SYSFS = Path("/sys/kernel/btf/vmlinux")
_MAX_BYTES = 256 << 20
_INSTALL = "install the kernel's debug info, or name its vmlinux with drgn -s"


class Carried:
    """The names and types of one program's kernel; use :func:`carried_by`."""

    def __init__(self, prog: Program) -> None:
        self._prog = prog

    @cached_property
    def vmcoreinfo(self) -> Vmcoreinfo:
        """VMCOREINFO, taken apart."""
        with door():
            return Vmcoreinfo(self._prog["VMCOREINFO"].string_())

    @cached_property
    def kallsyms(self) -> Kallsyms:
        """
        The symbols of the kernel image.

        :raises SymbolsError: if they cannot be found.
        :raises Fault: if they cannot be read.
        """
        known = known_tables(self._prog, self.vmcoreinfo)
        if known is None and _is_here(self._prog):
            return from_proc()
        if self.kallsyms_tables is None:
            raise SymbolsError(
                "there is no debug info, this kernel's VMCOREINFO (before Linux 6.0) "
                "does not say where its symbol table is, and none was found in the kernel "
                f"image: {_INSTALL}"
            )
        return from_tables(self._prog, self.kallsyms_tables)

    @cached_property
    def kallsyms_tables(self) -> Optional[Tables]:
        """The addresses of the tables behind these; None if they are not to be found."""
        known = known_tables(self._prog, self.vmcoreinfo)
        return search_tables(self._prog, self.vmcoreinfo) if known is None else known

    @cached_property
    def types(self) -> BtfTypes:
        """
        The kernel's types by its BTF, whatever the program has them from.

        :raises SymbolsError: if there are none.
        :raises Fault: if they cannot be read.
        """
        return BtfTypes(self._prog, BtfData(_read_btf(self._prog, self.kallsyms)))


def carried_by(prog: Program) -> Carried:
    """Return what the kernel of a program carries."""
    found: Carried = prog.cache.setdefault(_KEY, Carried(prog))
    return found


def _is_here(prog: Program) -> bool:
    """Whether it is the kernel that runs this."""
    here = ProgramFlags.IS_LIVE | ProgramFlags.IS_LOCAL
    return prog.flags & here == here


def _read_btf(prog: Program, symbols: Kallsyms) -> bytes:
    if _is_here(prog) and _SYSFS.exists():
        return _SYSFS.read_bytes()
    ends = [symbols.find(prog, f"__{end}_BTF", None, True) for end in ("start", "stop")]
    if not all(ends):
        # A variable of each kernel. Without its address BTF would be of no use either.
        lacks = "BTF (CONFIG_DEBUG_INFO_BTF)"
        if not symbols.find(prog, "init_task", None, True):
            lacks = "names of variables (CONFIG_KALLSYMS_ALL)"
        raise SymbolsError(
            f"there is no debug info, and this kernel was built without {lacks}: "
            f"{_INSTALL}"
        )
    start, stop = (end[0].address for end in ends)
    if not 0 < stop - start < _MAX_BYTES:
        raise SymbolsError(f"__start_BTF and __stop_BTF make no sense: {_INSTALL}")
    with door():
        return prog.read(start, stop - start)
