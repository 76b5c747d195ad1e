# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Opening a target
----------------

Where drgn has not opened one already. The types and names that a kernel carries come
first, as debug info takes its time; where it carries none, debug info stands in.
"""

import logging
import os
from contextlib import contextmanager, suppress
from typing import Iterator, Optional, Sequence

from drgn import MissingDebugInfoError, Program, host_platform

from .._drgn import connect_qemu
from ..errors import SymbolsError, TargetError, VmapError
from .memory.flaws import flaw_of
from .memory.kdump_files import names_of_kdump
from .target import Target

__all__ = ("open_target",)

_KCORE = "/proc/kcore"
_NO_KCORE = (
    f"this machine has no {_KCORE}, as 32-bit Arm and some containers have none: give a "
    "vmcore with -c, or a copy of /proc/vmallocinfo to vmap ls --from"
)
_DISABLED = "DRGN_DISABLE_PLUGINS"
_OF_COMMANDS = "builtin_commands,crash_commands,drgn_vmap"
"""Entry points of drgn and of ours. drgn takes ``*`` alone for all."""


def open_target(
    core: Optional[str] = None,
    qemu: Optional[str] = None,
    symbols: Sequence[str] = (),
    debug_info: bool = False,
) -> Target:
    """
    Open a kernel: the running one if no other is named.

    :param core: Name of a vmcore or slice.
    :param qemu: Where a QEMU guest's monitor listens: a path, or host:port.
    :param symbols: Names of files with debug info, to be taken first.
    :param debug_info: Whether to take debug info that drgn finds by itself.
    :raises TargetError: if it is none, or what it has cannot be read.
    :raises SymbolsError: if nothing tells its types and names, or a file is not of it.
    """
    prog = Program(host_platform) if core and _is_nameless(core) else Program()
    with _quiet(), _without_commands():
        _open(prog, core, qemu)
        if symbols:
            _load(prog, symbols)
        if debug_info:
            return _with_debug_info(prog)
        # Most kernels have all of it themselves.
        target = Target(prog)
        return target if target.has_types else _with_debug_info(prog)


@contextmanager
def _without_commands() -> Iterator[None]:
    """
    Have drgn not load the plugins that make commands of its prompt, which is not shown
    here: it takes longer than to list the areas of most kernels. Others, which may find
    debug info or types, are loaded.
    """
    before = os.environ.get(_DISABLED)
    if before != "*":
        os.environ[_DISABLED] = ",".join(filter(None, (before, _OF_COMMANDS)))
    try:
        yield
    finally:
        if before is None:
            del os.environ[_DISABLED]
        else:
            os.environ[_DISABLED] = before


def _open(prog: Program, core: Optional[str], qemu: Optional[str]) -> None:
    if qemu is not None:
        with _named(qemu, "give the address of its -qmp option"):
            connect_qemu(prog, qemu)
    elif core is not None:
        try:
            with _named(core, "give a vmcore"):
                prog.set_core_dump(core)
        except TargetError as e:
            flaw = flaw_of([core])
            if not flaw:
                raise
            raise TargetError(f"{core} cannot be opened: {flaw}") from e
    else:
        with _named(_KCORE, "be root, in no container, or give a vmcore with -c"):
            try:
                prog.set_kernel()
            except FileNotFoundError as e:
                raise TargetError(_NO_KCORE) from e


def _is_nameless(core: str) -> bool:
    """
    Whether a file is a kdump of QEMU's, and of a machine like this one.

    QEMU names the machine in its header, but no system, and libkdumpfile takes that for no
    names at all: it has to be told the architecture.
    """
    if not os.path.isfile(core):
        return False
    with suppress(OSError), open(core, "rb") as file:
        return names_of_kdump(file) == ("", os.uname().machine)
    return False


@contextmanager
def _named(name: str, advice: str) -> Iterator[None]:
    """Name what cannot be opened, and why."""
    try:
        yield
    except VmapError:
        raise
    # Of a damaged ELF file, drgn raises no more than this of what libelf says.
    except Exception as e:
        why = getattr(e, "strerror", None) or str(e).strip()
        raise TargetError(
            f"{name or repr(name)} cannot be opened ({why}): {advice}"
        ) from e


def _with_debug_info(prog: Program) -> Target:
    with suppress(MissingDebugInfoError):
        prog.load_default_debug_info()
    return Target(prog)


def _load(prog: Program, names: Sequence[str]) -> None:
    """Load files; drgn itself passes over those that are of no use."""
    for name in names:
        with _named(name, "name the kernel's vmlinux"), open(name, "rb"):
            pass
    prog.load_debug_info(names)
    loaded = [module.debug_file_path for module in prog.modules()]
    for name in names:
        if not any(path and os.path.samefile(path, name) for path in loaded):
            raise SymbolsError(
                f"{name} has no debug info of this kernel: name its own vmlinux, or "
                "leave out -s"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what drgn warns of to itself: what matters is raised."""
    logger = logging.getLogger("drgn")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
