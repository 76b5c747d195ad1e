# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Target
------

One opened kernel: what it is, and every way into it. It is made once, where a target is
opened, by the command line, the plugin or the API, and handed down from there.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Callable, List, Optional, Tuple

from drgn import (
    Architecture,
    FaultError,
    PlatformFlags,
    Program,
    ProgramFlags,
)

from .._drgn import follow_phys, opened_files
from ..errors import Fault, SymbolsError, TargetError
from ..model.areas import Kernel
from .doors import Values, architecture_of, door
from .functions import Functions
from .layout import Layout, probe_layout
from .memory.budget import ram_pages
from .memory.bulk import Memory
from .memory.cut import hide_what_is_cut_off
from .memory.direct_map import find_direct_map
from .memory.flaws import flaw_of
from .memory.frames import PageFrames
from .memory.own_tables import read_by_page_table
from .memory.page_table import PageTable
from .memory.ppc64 import LINEAR_START, has_hash_table, read_linear_only
from .types.carried import Carried, carried_by, is_here
from .types.debug_info import ensure_types, has_dwarf
from .types.structs import word_size
from .types.vmcoreinfo import Vmcoreinfo

if TYPE_CHECKING:
    from .memory.address_space import Reader
    from .memory.left_out import LeftOut
    from .memory.page_classes import PageClassifier

__all__ = ("Target",)

_MENDED = (
    Architecture.ARM,
    Architecture.PPC64,
    Architecture.RISCV64,
    Architecture.S390X,
)
"""Whose vmcores QEMU writes so that drgn does not open them."""


class Target:
    """
    One opened kernel: a context manager that lets go of what was read of it.

    Some things stay with the user's program when it closes, as drgn takes none back:
    finders of types and names (:mod:`.types.debug_info`), which serve who goes on by hand;
    on ppc64's hash MMU, a segment that makes its refusals faults (:mod:`.memory.ppc64`);
    one that reads by page tables that drgn does not know (:mod:`.memory.own_tables`); and
    those that make faults of what is behind the end of a file (:mod:`.memory.cut`).
    Another one stays if it is asked for (:mod:`.memory.direct`).

    :raises TargetError: if it is no Linux kernel, or none that can be read.
    """

    def __init__(self, prog: Program) -> None:
        if not prog.flags & ProgramFlags.IS_LINUX_KERNEL:
            advice = _mending(prog) or "give -c a kernel's vmcore"
            raise TargetError(f"this is no Linux kernel: {advice}")
        self.prog = prog
        self.by_lists = False
        """Whether to find areas by their lists, and not look at the trees that have the
        same ones."""
        self.on_search: Callable[[int, int], None] = lambda done, total: None
        """Is told how much of all memory was looked through, where that has to be."""
        self.live = bool(prog.flags & ProgramFlags.IS_LIVE)
        """Whether the kernel runs."""
        hide_what_is_cut_off(prog, self.files, _page_table_reader)
        read_by_page_table(prog, _page_table_reader)
        self._symbols, self._why_no_types = _try_types(prog)
        self.has_dwarf = has_dwarf(prog)
        """Whether stacks, and functions that were inlined, can be told."""
        self.vmcoreinfo = carried_by(prog).vmcoreinfo
        """What it tells those who read its memory."""
        self.page_size = _page_size(self.vmcoreinfo)
        """Bytes of a page."""
        self.has_hash_table = has_hash_table(prog)
        """Whether nobody here can read what its addresses translate to."""
        _check_dump(prog, self.has_hash_table)
        self.values = Values(prog)
        """Its variables."""
        self.functions = Functions(
            self.values,
            self.has_dwarf,
            lambda name: self.carried.kallsyms.variants(name),
        )
        """Those of mm/vmalloc.c."""
        direct_map = (
            LINEAR_START if self.has_hash_table else find_direct_map(self.values)
        )
        exact = self.vmcoreinfo.is_slice
        self.memory = Memory(prog, self.page_size, direct_map, exact=exact)
        """Its memory by virtual address."""
        self.physical = Memory(prog, self.page_size, physical=True, exact=exact)
        """Its memory by physical address."""

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "live" if self.live else "vmcore"
        return f"<Target {self.layout.kernel.release} ({state}, {self.symbols})>"

    def close(self) -> None:
        """Let go of all memory that was read."""
        self.forget()

    def forget(self) -> None:
        """Drop what was read of memory, so that what is read next is read anew."""
        self.memory.forget()
        self.physical.forget()

    @property
    def has_types(self) -> bool:
        """Whether anything tells its types and names."""
        return self._why_no_types is None

    @property
    def symbols(self) -> str:
        """
        Where types come from: ``dwarf``, ``btf``, or another finder's name.

        :raises SymbolsError: if nothing tells its types and names.
        """
        if self._why_no_types:
            raise self._why_no_types
        return self._symbols

    @property
    def files(self) -> List[str]:
        """The files that it may be read from, none of which a verb may write."""
        return opened_files(self.prog)

    @cached_property
    def flaw(self) -> str:
        """What is wrong with a vmcore's file, and what to do; nothing if it is whole."""
        return "" if self.live else flaw_of(self.files)

    @property
    def host(self) -> Optional[str]:
        """The name of its machine; None if it cannot be read, as in a slice."""
        try:
            return self.values.text(lambda prog: prog["init_uts_ns"].name.nodename)
        except Fault:
            return None

    @property
    def is_this_machine(self) -> bool:
        """Whether it is the running kernel of this very machine."""
        return is_here(self.prog)

    @property
    def word_size(self) -> int:
        """Bytes of an ``unsigned long``."""
        return word_size(self.prog)

    @property
    def byte_order(self) -> str:
        """``<`` if it stores the lowest byte first, else ``>``."""
        return "<" if self._has(PlatformFlags.IS_LITTLE_ENDIAN) else ">"

    def _has(self, flag: PlatformFlags) -> bool:
        platform = self.prog.platform
        return platform is not None and bool(platform.flags & flag)

    def symbol_address(self, name: str) -> Optional[int]:
        """Return the address of a symbol, None if none or several have the name."""
        with door():
            found = {symbol.address for symbol in self.prog.symbols(name)}
        return found.pop() if len(found) == 1 else None

    @property
    def carried(self) -> Carried:
        """The names and types that the kernel itself has."""
        return carried_by(self.prog)

    @cached_property
    def page_table(self) -> PageTable:
        """The kernel's page table."""
        return PageTable(
            self.values, self.physical, self.vmcoreinfo, self.has_hash_table
        )

    @cached_property
    def frames(self) -> PageFrames:
        """
        The array of all struct pages.

        :raises SymbolsError: if there is none, or nothing tells where it is.
        :raises Fault: if where it is cannot be read.
        """
        return PageFrames(self.values)

    def page_classifier(self) -> "PageClassifier":
        """
        Return what finds out what pages are used for.

        :raises VmapError: if nothing tells.
        """
        # Not at the top of the file: hardly any verb asks.
        from .memory.page_classes import PageClassifier
        from .memory.page_marks import PageMarks

        marks = PageMarks(self.prog, self.vmcoreinfo.numbers)
        return PageClassifier(marks, self.frames, self.memory, self.physical)

    @cached_property
    def left_out(self) -> "LeftOut":
        """The pages that are not in a vmcore, though drgn reads zeros of them."""
        from .memory.left_out import LeftOut

        files = [] if self.live else self.files
        return LeftOut(files, self.page_size, self.page_classifier)

    @cached_property
    def ram_pages(self) -> int:
        """How many pages of RAM there are at most: a budget for what areas claim."""
        return ram_pages(self.values)

    @cached_property
    def layout(self) -> Layout:
        """
        How this kernel keeps vmap areas.

        :raises TargetError: if it has none.
        :raises SymbolsError: if its types or variables are not known.
        """
        return probe_layout(self.values, self.symbols, self.page_size, self.functions)

    def need_layout(self) -> None:
        """
        See that what this kernel has can be told from what is lost of it.

        :raises TargetError: if it has no vmap areas.
        :raises SymbolsError: if its types or variables are not known.
        """
        self.layout

    @property
    def kernel(self) -> Kernel:
        """What is told of the kernel beside what was read of it."""
        return self.layout.kernel


def _page_table_reader(prog: Program) -> "Reader":
    # Not at the top of the file: hardly any vmcore needs it.
    from .memory.direct import page_table_reader

    return page_table_reader(prog)


def _try_types(prog: Program) -> Tuple[str, Optional[SymbolsError]]:
    """Return where types come from, or why they are not known."""
    try:
        return ensure_types(prog), None
    except SymbolsError as e:
        return "", e


def _page_size(vmcoreinfo: Vmcoreinfo) -> int:
    size = vmcoreinfo.page_size
    if size is None:
        raise TargetError(
            "its VMCOREINFO names no size that pages can have: "
            "take a vmcore that is neither damaged nor cut short"
        )
    return size


def _check_dump(prog: Program, hash_table: bool) -> None:
    """See that addresses can be translated, where QEMU's dumps need mending."""
    if hash_table:
        read_linear_only(prog)
        return
    advice = _mending(prog)
    if not advice:
        return
    try:
        init_mm = prog["init_mm"].address_of_()
    except LookupError:
        return
    try:
        follow_phys(init_mm, init_mm)
    except NotImplementedError:
        return  # By itself drgn translates none.
    except FaultError as e:
        if e.address != init_mm.value_():
            raise TargetError(
                f"no address in this vmcore can be translated ({e}): {advice}"
            ) from e


def _mending(prog: Program) -> str:
    """Return what to do about a dump that QEMU wrote, if there is anything to do."""
    if prog.flags & ProgramFlags.IS_LIVE or architecture_of(prog) not in _MENDED:
        return ""
    return "if QEMU wrote it, mend it with contrib/mend_qemu_core.py"
