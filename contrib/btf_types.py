#!/usr/bin/env python3
# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Print types as a file of BTF has them, without a kernel and without debug info:

    btf_types.py /sys/kernel/btf/vmlinux 'struct vm_struct' 'enum kcore_type'

Tried on the BTF of Debian's 5.10 to 7.3, and by tests on a small one.
"""

import sys
from pathlib import Path

from drgn import Architecture, Platform, Program

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drgn_vmap.kernel.types.btf import BtfTypes  # noqa: E402
from drgn_vmap.kernel.types.btf_data import BtfData  # noqa: E402

file, *names = sys.argv[1:]
prog = Program(Platform(Architecture.X86_64))
types = BtfTypes(prog, BtfData(Path(file).read_bytes()))
prog.register_type_finder("file-btf", types.find, enable_index=0)
for name in names:
    print(prog.type(name))
