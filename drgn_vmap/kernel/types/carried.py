# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a kernel carries
---------------------

Its own names (kallsyms) and types (BTF), in its memory, and what it tells those who read
that (VMCOREINFO). They do not change as long as the kernel runs, and drgn keeps a finder
of them as long as the program lives: so they are read once a program, by whoever asks
first, and this stays in ``Program.cache``.
"""

from functools import cached_property
from pathlib import Path
from typing import Optional, Tuple

from drgn import Program, ProgramFlags

from ...errors import GET_DEBUG_INFO, SymbolsError
from ..doors import door
from .btf import BtfTypes
from .btf_data import BtfData
from .btf_search import find_btf, read_btf
from .kallsyms import (
    Kallsyms,
    Tables,
    from_proc,
    from_tables,
    known_tables,
    tables_agree,
)
from .kallsyms_search import search_tables
from .kernel_image import mend_image
from .torn import Torn
from .torn_reads import read_torn
from .vmcoreinfo import Vmcoreinfo

__all__ = ("Carried", "carried_by", "is_here", "searched_tables")

_KEY = "drgn_vmap"
_SYSFS = Path("/sys/kernel/btf/vmlinux")
_MAX_BYTES = 256 << 20
_MISSING = 0.001
"""The share of functions in BTF that may have no name: none had, where it was looked."""


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
        mend_image(self._prog, self.vmcoreinfo)
        known = known_tables(self._prog, self.vmcoreinfo)
        if known is None and is_here(self._prog):
            return from_proc()
        if self.kallsyms_tables is None:
            raise SymbolsError(
                "this kernel's VMCOREINFO does not say where its symbol table is (before "
                "Linux 6.0, or without CONFIG_KALLSYMS), and none was found in the kernel "
                f"image: {GET_DEBUG_INFO}"
            )
        return from_tables(self._prog, self.kallsyms_tables, self.vmcoreinfo)

    @property
    def losses(self) -> Tuple[str, ...]:
        """What of them is lost in part, so that nobody can tell it from what never was."""
        torn = {"kallsyms": self.kallsyms.is_torn, "BTF": self.types.data.is_torn}
        return tuple(what for what, is_torn in torn.items() if is_torn)

    @cached_property
    def kallsyms_tables(self) -> Optional[Tables]:
        """The addresses of the tables behind these; None if they are not to be found."""
        known = known_tables(self._prog, self.vmcoreinfo)
        return searched_tables(self._prog, self.vmcoreinfo) if known is None else known

    @cached_property
    def types(self) -> BtfTypes:
        """
        The kernel's types by its BTF, whatever the program has them from.

        :raises SymbolsError: if there are none.
        :raises Fault: if they cannot be read.
        """
        btf = _read_btf(self._prog, self.kallsyms, self.kallsyms_tables)
        order = self._prog.type("unsigned int").byteorder or "little"
        data = read_btf(btf, order)
        if known_tables(self._prog, self.vmcoreinfo) is None:
            self._check_names(data)
        return BtfTypes(self._prog, data)

    def _check_names(self, data: BtfData) -> None:
        """
        See that the functions that BTF knows are those that have names, and its own texts
        are whole, where nobody says where names are.

        :raises SymbolsError: if they are not.
        """
        if data.is_torn:
            return
        heads = data.heads_of_functions()
        missing = 0
        if not self.kallsyms.is_torn:
            missing = self.kallsyms.count_missing(heads)
        if missing > _MISSING * len(heads) or not data.has_sound_strings():
            raise SymbolsError(
                "there is no debug info, and the names and types that the kernel image "
                f"has do not go together: they are damaged: {GET_DEBUG_INFO}"
            )


def searched_tables(prog: Program, vmcoreinfo: Vmcoreinfo) -> Optional[Tables]:
    """Find the tables behind a kernel's names that VMCOREINFO does not tell."""
    stext = vmcoreinfo.symbols.get("_stext")
    if stext is None:
        return None
    return search_tables(
        prog, stext, lambda tables: tables_agree(prog, tables, vmcoreinfo)
    )


def carried_by(prog: Program) -> Carried:
    """Return what the kernel of a program carries."""
    found: Carried = prog.cache.setdefault(_KEY, Carried(prog))
    return found


def is_here(prog: Program) -> bool:
    """Whether it is the kernel that runs this."""
    here = ProgramFlags.IS_LIVE | ProgramFlags.IS_LOCAL
    return prog.flags & here == here


def _read_btf(prog: Program, symbols: Kallsyms, tables: Optional[Tables]) -> Torn:
    # A variable of each kernel. Without its address BTF is of no use.
    has_variables = bool(symbols.find(prog, "init_task", None, True))
    if is_here(prog) and _SYSFS.exists() and has_variables:
        return Torn(_SYSFS.read_bytes())
    start, stop = (
        found[0].address if found else None
        for found in (
            symbols.find(prog, f"__{end}_BTF", None, True) for end in ("start", "stop")
        )
    )
    if symbols.is_torn and not (start and stop):
        # Their names or addresses are lost with others', but not what lies there, behind
        # the symbol table.
        tables_end = max((tables or {"": 0}).values())
        searched = find_btf(prog, start or tables_end)
        start, stop = searched or (start, stop)
    if not start or not stop:
        # A change under review (CONFIG_DEBUG_INFO_BTF=m) puts it into that module, and in
        # /sys while that is loaded.
        lacks = "BTF (CONFIG_DEBUG_INFO_BTF)"
        if is_here(prog):
            lacks += ", or has it in a module (modprobe btf_vmlinux)"
        if not has_variables:
            lacks = "names of variables (CONFIG_KALLSYMS_ALL)"
        was = "was built without"
        if symbols.is_torn:
            was = "has lost, or was built without,"
        raise SymbolsError(
            f"there is no debug info, and this kernel {was} {lacks}: {GET_DEBUG_INFO}"
        )
    if not 0 < stop - start < _MAX_BYTES:
        raise SymbolsError(
            f"__start_BTF and __stop_BTF make no sense: {GET_DEBUG_INFO}"
        )
    return read_torn(prog, start, stop - start)
