# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Prints how many pages hold the kernel's own data, by where that is looked for, and how many
of them the kernel says it has given back: they are not reserved (KPF_RESERVED of
/proc/kpageflags, Documentation/admin-guide/mm/pagemap.rst).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import drgn
from drgn.helpers.linux.mm import follow_phys

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.vmalloc.owners.variables import image_data

RESERVED = 1 << 32
PAGE_SHIFT = 12
prog = drgn.get_default_prog()


def flags_of(address: int) -> int:
    """Return what the kernel says of a page of the image."""
    mm = prog["init_mm"].address_of_()
    frame = follow_phys(mm, address).value_() >> PAGE_SHIFT
    with open("/proc/kpageflags", "rb") as file:
        file.seek(8 * frame)
        return int.from_bytes(file.read(8), "little")


pages = [
    address
    for start, end in image_data(Target(prog).symbol_address)
    for address in range(start >> PAGE_SHIFT << PAGE_SHIFT, end, 1 << PAGE_SHIFT)
]
given_back = [address for address in pages if not flags_of(address) & RESERVED]
print(json.dumps({"pages": len(pages), "given_back": list(map(hex, given_back))}))
