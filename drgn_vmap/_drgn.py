# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What differs between versions of drgn, from :data:`OLDEST` on: the one file that asks what
the installed one has, and does by itself what it lacks. It asks for what is there, never
for the version.
"""

import inspect
import os
from contextlib import suppress
from functools import lru_cache, partial
from types import ModuleType
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
)

import drgn
from drgn import FaultError, IntegerLike, Object, Program

from .errors import DrgnError, SymbolsError, VmapError

__all__ = (
    "Argument",
    "BAD_DATA",
    "OLDEST",
    "as_raised",
    "check_drgn",
    "connect_qemu",
    "follow_page_table",
    "follow_phys",
    "knows_sheaves",
    "linux_kernel_command",
    "make_linux_kernel",
    "opened_files",
    "read_c_string",
    "section_is_present",
)

OLDEST = "0.0.31"
"""The first that has modules, which say whether there is debug info."""
_GET_NEWER = (
    "pip install --upgrade drgn, or take the python3-drgn of a newer distribution"
)

Argument = Tuple[Sequence[str], Dict[str, Any]]
"""Of a command: its names, and more that argparse is told."""
BAD_DATA: Tuple[Type[Exception], ...] = tuple(
    error for error in [getattr(drgn, "BadDataError", None)] if error is not None
)
"""What it raises of data that it cannot make sense of, such as page sizes."""
_Command = TypeVar("_Command", bound=Callable[..., None])


def as_raised(error: Exception) -> Optional[VmapError]:
    """
    Return what our own code raised, also where drgn called it.

    Up to 0.2.0, drgn makes an Exception of that, whose text is its type and its own text.

    :return: None if it was no error of ours.
    """
    if isinstance(error, VmapError):
        return error
    name, _, text = str(error).partition(": ")
    is_ours = type(error) is Exception and name == SymbolsError.__name__
    return SymbolsError(text) if is_ours else None


def check_drgn() -> None:
    """
    See that the installed drgn has what nothing here can do without.

    :raises DrgnError: if it has not.
    """
    if not hasattr(Program, "main_module"):
        raise _too_old(OLDEST)


def connect_qemu(prog: Program, address: str) -> None:
    """
    Let a program be the kernel of a QEMU guest that runs.

    :raises DrgnError: if this drgn cannot: 0.2.0 was the first.
    """
    if not hasattr(prog, "set_qemu_qmp"):
        raise _too_old("0.2.0")
    prog.set_qemu_qmp(address)


def follow_phys(mm: Object, address: IntegerLike) -> Object:
    """
    Return the physical address that drgn finds for a virtual one, of any architecture.

    drgn's own function of this name comes with all of its helpers for Linux, and to import
    these takes longer than to list the areas of most kernels.

    :raises FaultError: if there is none, or if it cannot be found out.
    :raises NotImplementedError: if drgn does not know such page tables.
    """
    found = follow_page_table(mm.prog_, mm.pgd, address)
    return Object(mm.prog_, "unsigned long long", found)


def follow_page_table(prog: Program, table: IntegerLike, address: IntegerLike) -> int:
    """
    Return the physical address that a page table leads to. follow_phys() is this, but
    needs the kernel's types, which may come later.

    :param table: Virtual address of the table, which may be the kernel's own.
    :raises FaultError: if nothing is mapped there.
    :raises NotImplementedError: if drgn does not know such page tables.
    """
    # Not at the top of the file: drgn that is too old for this has it not, and is told so.
    from _drgn import _linux_helper_follow_phys  # type: ignore[import-not-found]

    return int(_linux_helper_follow_phys(prog, table, address))


@lru_cache(maxsize=None)
def knows_sheaves() -> bool:
    """
    Return whether drgn knows that slab objects in sheaves are free, as 0.1.0 was the first
    to do; that shows in nothing but its source.
    """
    from drgn.helpers.linux import slab

    return "cpu_sheaves" in inspect.getsource(slab)


def linux_kernel_command(
    arguments: Sequence[Argument], **about: str
) -> Callable[[_Command], _Command]:
    """
    Make a function a command of drgn's prompt, if it has any: 0.0.33 was the first; and of
    drgn-crash, if there is that.

    It is called with the program, with what is typed for it, such as ``%vmap``, and with the
    arguments.
    """
    try:
        from drgn.commands import argument
        from drgn.commands.linux import linux_kernel_command as registered
    except ModuleNotFoundError:
        return lambda function: function
    made = [argument(*names, **more) for names, more in arguments]

    def register(function: _Command) -> _Command:
        for sign, where in _prompts():
            called = partial(_call, function, sign)
            registered(arguments=made, **about, **where)(called)
        return function

    return register


def _prompts() -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Yield what stands before a command at each of drgn's prompts, and its namespace."""
    yield "%", {}
    # There is no public name for it. drgn itself imports this wherever it has commands.
    with suppress(ImportError):
        from drgn.commands._crash.common import CRASH_COMMAND_NAMESPACE

        yield "", {"namespace": CRASH_COMMAND_NAMESPACE}


def _call(
    function: Callable[..., None],
    sign: str,
    prog: Program,
    name: str,
    args: Any,
    **others: Any,
) -> None:
    function(prog, f"{sign}{name}", args)


def make_linux_kernel(prog: Program, vmcoreinfo: bytes, is_live: bool) -> None:
    """
    Let a program be a Linux kernel, with the memory that it has.

    :raises DrgnError: if this drgn cannot: 0.1.0 was the first.
    """
    if not hasattr(prog, "set_linux_kernel_custom"):
        raise _too_old("0.1.0")
    prog.set_linux_kernel_custom(vmcoreinfo, is_live=is_live)


def opened_files(prog: Program) -> List[str]:
    """Return the file that a program reads memory from; none of a running kernel's."""
    descriptors = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    if not hasattr(prog, "core_dump_path"):
        # Before 0.0.33, it is one of those that this process has open.
        return descriptors
    path = prog.core_dump_path
    if path is None or os.path.exists(path):
        return [] if path is None else [path]
    # Its name may be gone since.
    return [name for name in descriptors if os.path.realpath(name) == path]


def read_c_string(prog: Program, address: int, physical: bool, max_size: int) -> bytes:
    """
    Read a string that a zero ends.

    :raises FaultError: if it cannot be read.
    """
    if hasattr(prog, "read_c_string"):
        return prog.read_c_string(address, physical, max_size=max_size)
    if physical:
        raise FaultError("this drgn reads no strings of physical memory", address)
    char = prog.int_type("char", 1, True)
    return Object(prog, prog.array_type(char, max_size), address=address).string_()


def section_is_present(prog: Program, frame: int) -> bool:
    """
    Return whether the section of memory that a page frame is in is present.

    :raises LookupError: if that is not known, as before 0.0.33.
    """
    mmzone = _mmzone()
    if mmzone is None:
        raise LookupError("this drgn knows no sections of memory")
    return bool(mmzone.present_section(mmzone.pfn_to_section(prog, frame)))


@lru_cache(maxsize=None)
def _mmzone() -> Optional[ModuleType]:
    # Python looks anew each time for what it did not find.
    try:
        from drgn.helpers.linux import mmzone
    except ImportError:
        return None
    return mmzone


def _too_old(needed: str) -> DrgnError:
    example = ", such as Debian 13" if needed == OLDEST else ""
    return DrgnError(
        f"drgn {drgn.__version__} is too old for this, {needed} is needed: {_GET_NEWER}"
        f"{example}"
    )
