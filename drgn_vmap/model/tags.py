# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Tags
----

On arm64, a kernel with CONFIG_KASAN_SW_TAGS or CONFIG_KASAN_HW_TAGS keeps a tag in the
highest byte of pointers, and the processor looks past it. So a place has many addresses, and
two pointers to it need not be equal. Tags come off where pointers enter, of a target
(:mod:`.kernel.doors`) or of a text, and nobody else need know of them.
"""

from .._numpy import Array, Record, U64Array, np

__all__ = ("ANY_TAGS", "Tags", "as_pointer")

_TAG = 0xFF << 56
"""All ones in an address that has none."""
_KERNEL = 0xF << 52
"""The bits below, which are set in the kernel's addresses on arm64, and not in its poison."""
_IS_POINTER = "is_pointer"


def as_pointer(number: Record) -> Record:
    """Return the dtype of a pointer that is as long as some number."""
    return np.dtype(number, metadata={_IS_POINTER: True})


def _is_pointer(dtype: Record) -> bool:
    """Return whether it is that of a pointer, or of several."""
    return _IS_POINTER in (dtype.base.metadata or ())


class Tags:
    """
    Takes tags off pointers.

    :param are_there: Whether there may be any.
    """

    def __init__(self, are_there: bool) -> None:
        self._are_there = are_there

    def off(self, address: int) -> int:
        """Return an address without its tag."""
        is_tagged = self._are_there and address & _KERNEL == _KERNEL
        return address | _TAG if is_tagged else address

    def off_all(self, addresses: U64Array) -> U64Array:
        """Return addresses without their tags; they may be the same ones."""
        if not self._are_there:
            return addresses
        kernel, tag = np.uint64(_KERNEL), np.uint64(_TAG)
        of_kernel = addresses & kernel == kernel
        untagged: U64Array = np.where(of_kernel, addresses | tag, addresses)
        return untagged

    def off_records(self, records: Array) -> Array:
        """Return records whose pointers have no tags; they may be the same ones."""
        if not self._are_there:
            return records
        dtype = records.dtype
        if _is_pointer(dtype):
            return self.off_all(records).astype(dtype)
        pointers = [name for name in dtype.names or () if _is_pointer(dtype[name])]
        if pointers:
            # As what it is made of may be read only.
            records = records.copy()
        for name in pointers:
            records[name] = self.off_all(records[name])
        return records


ANY_TAGS = Tags(True)
"""Of a text, which does not say what machine it is of: elsewhere no address looks tagged."""
