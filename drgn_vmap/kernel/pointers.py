# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Pointers
--------

How this kernel prints %pK (lib/vsprintf.c).
"""

from drgn import FaultError, Program

from ..errors import SymbolsError, TargetError
from ..model.areas import PointerPolicy

__all__ = ("pointer_policy",)


def pointer_policy(prog: Program) -> PointerPolicy:
    """
    Read the kernel's settings for printing addresses, and its hash key.

    :return: The policy. The key is None as long as all of ptr_key is zero, that
        is until the kernel has drawn it, soon after boot.
    :raises SymbolsError: if the variables are not known.
    :raises TargetError: if they cannot be read.
    """
    try:
        return _read_policy(prog)
    except LookupError as e:
        raise SymbolsError(
            f"how this kernel prints addresses is not known ({e}): "
            "use --pointers raw, or name its vmlinux with drgn -s"
        ) from e
    except FaultError as e:
        raise TargetError(
            f"how this kernel prints addresses cannot be read ({e}): "
            "use --pointers raw"
        ) from e


def _read_policy(prog: Program) -> PointerPolicy:
    ptr_key = prog.variable("ptr_key", "lib/vsprintf.c")
    assert ptr_key.address_ is not None
    # Two u64 in the kernel's byte order, where siphash wants the bytes of either.
    halves = [prog.read_u64(ptr_key.address_ + at) for at in (0, 8)]
    key = b"".join(half.to_bytes(8, "little") for half in halves)
    # Since Linux kernel commit 5ead723a20e0 ("lib/vsprintf: no_hash_pointers
    # prints all addresses as unhashed") (in v5.12).
    try:
        no_hash = bool(prog["no_hash_pointers"].value_())
    except KeyError:
        no_hash = False
    return PointerPolicy(
        kptr_restrict=int(prog["kptr_restrict"].value_()),
        hash_pointers=not no_hash,
        key=key if any(key) else None,
    )
