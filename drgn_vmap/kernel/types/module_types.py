# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Types of modules
----------------

Each loaded module keeps its own BTF in the kernel's memory (struct btf_module of
kernel/bpf/btf.c). It holds the types that only the module has, and builds on the
kernel's.
"""

from typing import Dict

from drgn import Object, Program
from drgn.helpers import ValidationError
from drgn.helpers.linux.list import validate_list_for_each_entry

from ...errors import Fault, SymbolsError
from ..doors import door
from .btf import BtfTypes
from .btf_data import BtfData
from .carried import carried_by
from .debug_info import BTF_FINDER

__all__ = ("load_module_types", "module_btf")

_MAX_BYTES = 64 << 20


def module_btf(prog: Program) -> Dict[str, Object]:
    """
    Return each loaded module's ``struct btf *``, by the module's name.

    :raises SymbolsError: if the kernel keeps none, or if they cannot be read.
    """
    # Since Linux kernel commit 36e68442d1af ("bpf: Load and verify kernel module BTFs")
    # (in v5.11), and with CONFIG_DEBUG_INFO_BTF_MODULES.
    try:
        modules = prog["btf_modules"]
    except KeyError:
        raise SymbolsError(
            "this kernel keeps no BTF of modules (CONFIG_DEBUG_INFO_BTF_MODULES): "
            "load the module's debug info"
        ) from None
    listed = validate_list_for_each_entry(
        "struct btf_module", modules.address_of_(), "list"
    )
    try:
        with door():
            return {
                one.btf.name.string_().decode("ascii", "backslashreplace"): (
                    one.btf.read_()
                )
                for one in listed
            }
    except (Fault, ValidationError) as e:
        raise _unreadable(e) from e


def load_module_types(prog: Program, name: str) -> None:
    """
    Let a program know the types that a loaded module has beside the kernel's.

    >>> load_module_types(prog, "virtio_blk")
    >>> prog.type("struct virtblk_req").size
    40

    :param name: Of the module, as lsmod shows it.
    :raises SymbolsError: if the module is not loaded, has no BTF, or if that is
        damaged.
    """
    finder = f"{BTF_FINDER}-{name}"
    if finder in prog.registered_type_finders():
        return
    loaded = module_btf(prog)
    if name not in loaded:
        raise SymbolsError(
            f"module {name} is not loaded or has no BTF: there are {', '.join(loaded)}"
        )
    kernel = carried_by(prog).types
    data = BtfData(_read(prog, loaded[name]), kernel.data)
    types = BtfTypes(prog, data, kernel)
    prog.register_type_finder(finder, types.find, enable_index=-1)


def _read(prog: Program, btf: Object) -> bytes:
    try:
        with door():
            size = btf.data_size.value_()
            if size <= _MAX_BYTES:
                return prog.read(btf.data, size)
    except Fault as e:
        raise _unreadable(e) from e
    raise SymbolsError(f"struct btf {btf.value_():#x} is damaged: {size} bytes")


def _unreadable(why: Exception) -> SymbolsError:
    detail = why.why if isinstance(why, Fault) else why
    return SymbolsError(
        f"the BTF of modules cannot be read ({detail}): load the modules' debug info"
    )
