# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names that are packed as scripts/kallsyms.c of the kernel packs them."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Iterable

#: A byte stands for itself, but those above ASCII for something made of two others.
TOKENS = [bytes([byte]) for byte in range(128)]
TOKENS += [b"vm", b"Tvm", b"ap", b"vmap", b"al", b"lo", b"loc", b"alloc", b""]
TOKENS += [b"ve", b"ry", b"very", b"very_", b"ng", b"long", b"very_long"]
TOKENS += [b"very_long_", b"xy", *[b"xyz"] * 110]


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
    data, markers = names_and_markers(names)
    return data + bytes(-len(data) % 8) + between + numbers(markers, f"{order}I")


def names_and_markers(names: Iterable[bytes]) -> tuple[bytes, list[int]]:
    """Return all names, and where each 256th begins."""
    data, markers = bytearray(), []
    for index, name in enumerate(names):
        if index % 256 == 0:
            markers.append(len(data))
        # Not packed, a long name takes more bytes than one can count.
        data += with_length(packed(name) if len(name) < 128 else name)
    return bytes(data), markers


def noise(rng: random.Random, count: int) -> bytes:
    """Return random bytes."""
    return rng.getrandbits(8 * count).to_bytes(count, "little")


def numbers(values: Iterable[int], form: str) -> bytes:
    """Return numbers as they lie in memory."""
    return b"".join(struct.pack(form, value) for value in values)


@dataclass(frozen=True)
class Form:
    """How a kernel keeps its symbols."""

    name: str
    kind: str
    """``base``, ``percpu`` (base, but absolute numbers where they are positive),
    ``place`` or ``addresses``."""
    behind: bool
    """Whether addresses stand behind all else."""
    word: int = 8
    order: str = "<"
    marker: int = 4
    align: int = 8


@dataclass(frozen=True)
class Carrier:
    """An image that holds symbols."""

    data: bytes
    places: dict[str, int]
    """The address of each part, by its variable."""


#: Texts for all codes; those that no name has stand for something longer, as in kernels.
TEXTS = [
    (token if code >= 128 or token.isalnum() or token in (b"_", b".", b"$") else b"xyz")
    for code, token in enumerate(TOKENS)
]


def carrier(form: Form, start: int, symbols: list[tuple[int, bytes]]) -> Carrier:
    """
    Return an image that holds symbols, with other bytes around them.

    :param start: Its address.
    :param symbols: Addresses, ascending, and types with names.
    """
    rng = random.Random(form.name)
    data = bytearray(noise(rng, 5000)) + b"".join(b"%d\0" % n for n in range(10))
    places: dict[str, int] = {}

    def put(name: str, part: bytes, align: int = form.align) -> None:
        data.extend(bytes(-(start + len(data)) % align))
        places[f"kallsyms_{name}"] = start + len(data)
        data.extend(part)

    def put_addresses() -> None:
        word = f"{form.order}{'Q' if form.word == 8 else 'I'}"
        values = [address for address, _ in symbols]
        if form.kind == "addresses":
            put("addresses", numbers(values, word), form.word)
            return
        base = min(value for value in values if value >= start)
        at = start + len(data)
        at += -at % form.align
        if form.kind == "place":
            values = [value - at - 4 * row for row, value in enumerate(values)]
        elif form.kind == "percpu":
            values = [v if v < start else base - 1 - v for v in values]
        else:
            values = [value - base for value in values]
        put("offsets", numbers(values, f"{form.order}i"))
        if form.kind != "place":
            put("relative_base", numbers([base], word), form.word)

    if not form.behind:
        put_addresses()
    packed_names, markers = names_and_markers(name for _, name in symbols)
    put("num_syms", numbers([len(symbols)], f"{form.order}I"))
    put("names", packed_names)
    put("markers", numbers(markers, f"{form.order}{'Q' if form.marker == 8 else 'I'}"))
    if form.behind:
        put("seqs_of_names", noise(rng, 3 * len(symbols)))
    put("token_table", b"".join(text + b"\0" for text in TEXTS))
    lengths = [len(text) + 1 for text in TEXTS]
    index = [sum(lengths[:code]) for code in range(256)]
    put("token_index", numbers(index, f"{form.order}H"))
    if form.behind:
        put_addresses()
    for name in ("markers", "seqs_of_names"):
        places.pop(f"kallsyms_{name}", None)
    return Carrier(bytes(data + noise(rng, 5000)), places)
