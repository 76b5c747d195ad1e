# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""BTF put together by hand."""

from __future__ import annotations

import struct
from typing import Iterable

from drgn_vmap.kernel.types.btf_data import BtfKind


class Maker:
    """Lays out BTF."""

    def __init__(self, order: str = "<", base: "Maker | None" = None) -> None:
        self.order = order
        self.types = b""
        self.next: int = base.next if base else 1
        self.first_string = base.end_string if base else 0
        self.strings = b"" if base else b"\0"

    @property
    def end_string(self) -> int:
        return self.first_string + len(self.strings)

    def string(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return self.end_string - len(text) - 1

    def add(
        self,
        kind: int,
        name: str = "",
        size_or_type: int = 0,
        words: Iterable[int] = (),
        vlen: int = 0,
        flag: bool = False,
    ) -> int:
        info = flag << 31 | kind << 24 | vlen
        all_words = [self.string(name), info, size_or_type, *words]
        self.types += struct.pack(f"{self.order}{len(all_words)}I", *all_words)
        self.next += 1
        return self.next - 1

    def integer(self, name: str = "int", size: int = 4, bits: int = 0) -> int:
        encoding = 1 << 24 | (bits or 8 * size)
        return self.add(BtfKind.INT, name, size, [encoding])

    def data(self, layout: bytes = b"") -> bytes:
        header_bytes = 24 + 8 * bool(layout)
        ends = len(self.types), len(self.strings)
        header = struct.pack(
            f"{self.order}HBBIIIII", 0xEB9F, 1, 0, header_bytes, 0, ends[0], *ends
        )
        if layout:
            header += struct.pack(f"{self.order}II", sum(ends), len(layout))
        return header + self.types + self.strings + layout
