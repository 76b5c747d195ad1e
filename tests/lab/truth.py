# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the fixture module says it made: its proc files, parsed (module/README.md)."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from itertools import chain
from typing import Iterator, Sequence

__all__ = (
    "Attempt",
    "Mapping",
    "MappingSet",
    "Stress",
    "Truth",
    "address_of",
    "page_bytes",
)

MAGIC = 0xA5
WORD_BYTES = 8


@dataclass(frozen=True)
class Mapping:
    """One mapping, live or freed."""

    id: int
    kind: str
    """The kernel function that made it, ``vmap_put``: vmap() with VM_MAP_PUT_PAGES."""

    state: str
    """``live`` or ``freed``."""

    address: int
    pages: int
    """Those mapped: without rounding or guard page."""

    area: str
    """``own``, or ``block``: part of a vmap_block."""

    pfns: Sequence[int]
    """The page frame of each page."""

    fill: int | None
    """Its pages hold ``page_bytes(fill, index, …)``; None: nobody filled them."""

    cpu: int | None
    """Where vm_map_ram() was called."""

    node: int | None
    """The NUMA node vmalloc_node() was asked for."""

    phys: int | None
    """The physical address ioremap() or memremap() was given."""

    @property
    def live(self) -> bool:
        """Whether it is mapped."""
        return self.state == "live"


@dataclass(frozen=True)
class MappingSet:
    """The sum of one set of mappings, and where they are listed."""

    name: str
    file: str
    """Its name below /proc."""

    caller: str | None
    """The function all of its areas name as their caller, if it is one."""

    live: int
    pages: int
    """Of the live mappings."""

    freed: int


@dataclass(frozen=True)
class Stress:
    """What the stress threads did since the module was loaded."""

    running: bool
    made: int
    unmade: int
    failed: int


@dataclass(frozen=True)
class Attempt:
    """The last ``try``: an allocation of that size and alignment, in bytes."""

    size: int
    align: int
    by: str
    """The kernel function that was called."""

    fits: bool
    address: int | None
    """Where it was, if it fitted."""


@dataclass(frozen=True)
class Truth:
    """All that /proc/vmap_lab says."""

    page_size: int
    absent: dict[str, str]
    """Kinds that this kernel or machine has none of, and why."""

    sets: dict[str, MappingSet]
    stress: Stress
    attempt: Attempt | None
    plants: dict[str, int]
    """Where areas begin of which is known who points at them."""

    mappings: tuple[Mapping, ...]
    """Those of the base set; other sets have files of their own."""

    @classmethod
    def parse(cls, text: str) -> Truth:
        """
        Parse /proc/vmap_lab.

        :raises ValueError: for a line that is none of its grammar.
        """
        records: dict[str, list[dict[str, str]]] = {
            word: []
            for word in ("lab", "absent", "set", "stress", "try", "plant", "map")
        }
        for word, fields in _lines(text):
            if word not in records:
                raise ValueError(f"unknown line: {word} {fields}")
            records[word].append(fields)
        [lab], [stress] = records["lab"], records["stress"]
        return cls(
            page_size=int(lab["page_size"]),
            absent={line["kind"]: line["reason"] for line in records["absent"]},
            sets={line["name"]: _mapping_set(line) for line in records["set"]},
            stress=_stress(stress),
            attempt=_attempt(records["try"][0]) if records["try"] else None,
            plants={
                line["name"]: address_of(line["addr"]) for line in records["plant"]
            },
            mappings=tuple(map(_mapping, records["map"])),
        )

    @staticmethod
    def parse_mappings(text: str) -> Iterator[Mapping]:
        """
        Yield the mappings of another set's file.

        :raises ValueError: for a line that is none.
        """
        for word, fields in _lines(text):
            if word != "map":
                raise ValueError(f"not a mapping: {word} {fields}")
            yield _mapping(fields)


def page_bytes(
    fill: int, page_index: int, page_size: int, byteorder: str = sys.byteorder
) -> bytes:
    """
    Return what a page of a filled mapping holds.

    :param fill: :attr:`Mapping.fill`.
    :param byteorder: ``little`` or ``big``, of the machine with the module.
    """
    base = MAGIC << 56 | fill << 32 | (page_index & 0xFFFF) << 16
    words = page_size // WORD_BYTES
    order = "<" if byteorder == "little" else ">"
    return struct.pack(f"{order}{words}Q", *range(base, base + words))


def address_of(text: str) -> int:
    """Return an address that the kernel printed, without the tag that it may have on arm64."""
    address = int(text, 16)
    is_of_kernel = address >> 52 & 0xF == 0xF
    return address | 0xFF << 56 if is_of_kernel else address


def _lines(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for line in text.splitlines():
        word, *fields = line.split(" ")
        yield word, dict(_field(field) for field in fields)


def _field(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"not KEY=VALUE: {text!r}")
    return key, value


def _mapping(fields: dict[str, str]) -> Mapping:
    def optional(key: str) -> int | None:
        return int(fields[key], 0) if key in fields else None

    return Mapping(
        id=int(fields["id"]),
        kind=fields["kind"],
        state=fields["state"],
        address=address_of(fields["addr"]),
        pages=int(fields["pages"]),
        area=fields["area"],
        pfns=_pfns(fields["pfns"]),
        fill=optional("fill"),
        cpu=optional("cpu"),
        node=optional("node"),
        phys=optional("phys"),
    )


def _pfns(text: str) -> Sequence[int]:
    runs = [_run(run) for run in text.split(",")]
    # A reserved range can have millions of page frames, in one run.
    return runs[0] if len(runs) == 1 else tuple(chain.from_iterable(runs))


def _run(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _mapping_set(fields: dict[str, str]) -> MappingSet:
    return MappingSet(
        name=fields["name"],
        file=fields["file"],
        caller=None if fields["caller"] == "-" else fields["caller"],
        live=int(fields["live"]),
        pages=int(fields["pages"]),
        freed=int(fields["freed"]),
    )


def _stress(fields: dict[str, str]) -> Stress:
    return Stress(
        running=fields["running"] == "1",
        made=int(fields["made"]),
        unmade=int(fields["unmade"]),
        failed=int(fields["failed"]),
    )


def _attempt(fields: dict[str, str]) -> Attempt:
    fits = fields["result"] == "fits"
    return Attempt(
        size=int(fields["size"]),
        align=int(fields["align"]),
        by=fields["by"],
        fits=fits,
        address=address_of(fields["addr"]) if fits else None,
    )
