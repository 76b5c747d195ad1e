# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names that are packed as scripts/kallsyms.c of the kernel packs them."""

from __future__ import annotations

import struct
from typing import Iterable

#: A byte stands for itself, but those above ASCII for something longer.
TOKENS = [bytes([byte]) for byte in range(128)]
TOKENS += [b"Tvm", b"vmap", b"alloc", b"", b"_", b"very_long_", *[b"xyz"] * 122]


def packed(name: bytes) -> bytes:
    """Pack a name, with the tokens that fit where they fit."""
    codes = bytearray()
    while name:
        fitting = [code for code, token in enumerate(TOKENS) if name.startswith(token)]
        code = max(fitting, key=lambda code: len(TOKENS[code]))
        codes.append(code)
        name = name[len(TOKENS[code]) :]
    return bytes(codes)


def with_length(codes: bytes) -> bytes:
    """Put the length of a packed name in front of it."""
    if len(codes) < 128:
        return bytes([len(codes)]) + codes
    return bytes([0x80 | len(codes) & 0x7F, len(codes) >> 7]) + codes


def table(names: Iterable[bytes], order: str, between: bytes = b"") -> bytes:
    """Return all names, and behind them what else the kernel keeps there."""
    data, markers = bytearray(), []
    for index, name in enumerate(names):
        if index % 256 == 0:
            markers.append(len(data))
        # Not packed, a long name takes more bytes than one can count.
        data += with_length(packed(name) if len(name) < 128 else name)
    return (
        bytes(data)
        + bytes(-len(data) % 8)
        + between
        + b"".join(struct.pack(f"{order}I", marker) for marker in markers)
    )
