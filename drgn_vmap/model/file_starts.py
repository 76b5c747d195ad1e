# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Starts of files
---------------

What files begin with, by which it is known what they are: a vmcore goes with ``-c``, a text
with ``--from``, and either may be packed.
"""

__all__ = (
    "BZIP2",
    "ELF",
    "FLATTENED",
    "GZIP",
    "PACKED",
    "VMCORES",
    "XZ",
    "ZIP",
    "ZSTD",
)

ELF = b"\x7fELF"
FLATTENED = b"makedumpfile"
VMCORES = (ELF, b"KDUMP", FLATTENED)

GZIP = b"\x1f\x8b"
XZ = b"\xfd7zXZ\0"
BZIP2 = b"BZh"
ZSTD = b"\x28\xb5\x2f\xfd"
ZIP = b"PK\x03\x04"
PACKED = (GZIP, XZ, BZIP2, ZSTD, ZIP)
