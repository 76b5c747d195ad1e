# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Pointers
--------

How this kernel prints the addresses of /proc/vmallocinfo (lib/vsprintf.c).
"""

from ..._numpy import np
from ...errors import Fault, SymbolsError, TargetError
from ...model.areas import PointerPolicy
from ..target import Target
from ..types.structs import word_dtype

__all__ = ("pointer_policy",)


def pointer_policy(target: Target) -> PointerPolicy:
    """
    Read the kernel's settings for printing addresses, and its hash key.

    :return: The policy. The key is None as long as all of ptr_key is zero, that
        is until the kernel has drawn it, soon after boot.
    :raises SymbolsError: if the variables are not known.
    :raises TargetError: if they cannot be read.
    """
    try:
        return _read_policy(target)
    except Fault as e:
        raise TargetError(
            f"how this kernel prints addresses cannot be read ({e.why}): "
            "use --pointers raw"
        ) from e


def _read_policy(target: Target) -> PointerPolicy:
    values = target.values
    ptr_key = values.address("ptr_key", "lib/vsprintf.c")
    restrict = values.number(lambda prog: prog["kptr_restrict"])
    if ptr_key is None or restrict is None:
        lost = "ptr_key" if ptr_key is None else "kptr_restrict"
        raise SymbolsError(
            f"how this kernel prints addresses is not known (could not find '{lost}'): "
            "use --pointers raw, or name its vmlinux with -s"
        )
    # Two u64 in the kernel's byte order, where siphash wants the bytes of either.
    order = np.dtype("u8").newbyteorder(word_dtype(target.prog).byteorder)
    halves = target.memory.array(ptr_key, 2, order)
    key = b"".join(half.to_bytes(8, "little") for half in halves.tolist())
    # Since Linux kernel commit 5ead723a20e0 ("lib/vsprintf: no_hash_pointers
    # prints all addresses as unhashed") (in v5.12).
    no_hash = values.number(lambda prog: prog["no_hash_pointers"])
    if target.functions.has("show_busy_info"):
        # A change under review prints %p, which asks nobody. It makes this function of
        # what it changes; where inlining hides it and there is no DWARF, nothing tells.
        restrict = 0
    return PointerPolicy(
        kptr_restrict=restrict,
        hash_pointers=not no_hash,
        key=key if any(key) else None,
    )
