# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
CPUs
----

Which CPUs a kernel has, and where each keeps its own copy of a per-CPU variable.
"""

from typing import Dict, Sequence, Tuple

from ..doors import Values

__all__ = ("online_cpus", "per_cpu_addresses", "per_cpu_offsets", "possible_cpus")

_OFFSETS = "__per_cpu_offset"


def possible_cpus(values: Values) -> Tuple[int, ...]:
    """
    Return the CPUs that there may ever be, ascending.

    :raises SymbolsError: if the kernel's mask of them is not known.
    :raises Fault: if it cannot be read.
    """
    return _cpus(values, "__cpu_possible_mask")


def online_cpus(values: Values) -> Tuple[int, ...]:
    """Return the CPUs that run, ascending; raises the same."""
    return _cpus(values, "__cpu_online_mask")


def per_cpu_addresses(values: Values, name: str, cpus: Sequence[int]) -> Dict[int, int]:
    """
    Return the address of a per-CPU variable of each of some CPUs.

    :raises SymbolsError: if this kernel has no such variable.
    :raises Fault: if where a CPU keeps its own cannot be read.
    """
    base = values.need(name, values.address(name))
    offsets = per_cpu_offsets(values, cpus)
    return {cpu: (base + offset) % (1 << 64) for cpu, offset in offsets.items()}


def per_cpu_offsets(values: Values, cpus: Sequence[int]) -> Dict[int, int]:
    """
    Return what to add to the address of a per-CPU variable for that of each CPU's own.

    :raises SymbolsError: if this kernel has several CPUs, and no such offsets.
    :raises Fault: if one cannot be read.
    """
    # Kernels without SMP have one CPU, and no offsets.
    if tuple(cpus) == (0,) and values.address(_OFFSETS) is None:
        return {0: 0}
    return {cpu: _offset(values, cpu) for cpu in cpus}


def _offset(values: Values, cpu: int) -> int:
    return values.need(_OFFSETS, values.number(lambda prog: prog[_OFFSETS][cpu]))


def _cpus(values: Values, name: str) -> Tuple[int, ...]:
    return values.need(name, values.bits(lambda prog: prog[name].bits))
