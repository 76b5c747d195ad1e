# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Texts in dialects
-----------------

The same areas as kernels of several eras print them, of 32 and 64 bits, and what people
and their tools then do to the text. Written from the kernels' own format strings, without
any of the code under test.
"""

from __future__ import annotations

import random
import re
import textwrap
from dataclasses import dataclass
from typing import Callable

PAGE = 4096

Dialect = Callable[[str], str]


@dataclass(frozen=True)
class Truth:
    """An area that a kernel has."""

    start: int
    size: int
    caller: str = ""
    pages: int = 0
    phys: int = 0
    labels: tuple[str, ...] = ()
    plain: str = ""
    numa: tuple[tuple[int, int], ...] = ()

    @property
    def key(self) -> str:
        """What ``top --by caller`` sums it up by."""
        return self.caller or self.plain or "(no caller)"


@dataclass(frozen=True)
class Era:
    """What a kernel prints."""

    name: str
    numa: bool
    phys: str
    """How a physical address is printed on 64 and on 32 bits."""
    pointers: str = "raw"
    words: frozenset[str] = frozenset()
    lazy: str = "none"
    """Whether unpurged areas are listed, and where."""
    nodes: int = 1


OLD = frozenset({"ioremap", "vmalloc", "vmap", "user", "vpages"})
NEW = OLD | {"dma-coherent"}
ERAS = (
    Era("2.6.28", False, "bare", words=OLD),
    Era("3.10", True, "bare", words=OLD | {"lowmem"}),
    Era("4.13", True, "bare", words=OLD, lazy="among"),
    Era("4.19", False, "padded", "hashed", words=OLD, lazy="among"),
    Era("5.10", True, "padded", words=NEW, lazy="behind"),
    Era("6.12", True, "padded", words=NEW | {"sparse"}, lazy="behind", nodes=4),
    Era("6.1 without addresses", True, "padded", "zero", words=NEW, lazy="behind"),
    Era("4.15 before its key", False, "padded", "(ptrval)", words=OLD),
)

_CALLERS = (
    "kernel_clone+0x9c/0x430",
    "alloc_large_system_hash+0x127/0x246",
    "module_alloc+0x5f/0x70",
    "load_module+0x12/0x1d00 [nf_tables]",
    "bpf_prog_alloc_no_stats+0x37/0x150",
    "xfs_buf_map.isra.0+0x4/0x90 [xfs]",
    "0xffffffffc020914d",
)
_IO = ("acpi_os_map_iomem+0x1a9/0x1e0", "hpet_enable+0x9e/0x500", "of_iomap+0x4c/0x58")


def areas_of(era: Era, bits: int, count: int, seed: int) -> list[Truth]:
    """Return areas such as that kernel has, in the order of addresses."""
    rng = random.Random(f"{era.name} {bits} {seed}")
    at = 0xFFFFC90000000000 if bits == 64 else 0xF0800000
    found = []
    for _ in range(count):
        at += PAGE * rng.choice((0, 0, 1, 4, 16))
        area = _area(era, bits, at, rng)
        found.append(area)
        at += area.size
    return found


def _area(era: Era, bits: int, at: int, rng: random.Random) -> Truth:
    plain = {"none": 0, "among": 2, "behind": 2}[era.lazy]
    kind = rng.choices(
        ("vmalloc", "ioremap", "vmap", "odd", "ram", "lazy"), (8, 3, 2, 2, plain, plain)
    )[0]
    if kind in ("ram", "lazy"):
        word = "vm_map_ram" if kind == "ram" else "unpurged vm_area"
        return Truth(at, PAGE * rng.randint(1, 70), plain=word)
    if kind == "ioremap":
        size = PAGE * rng.choice((2, 3, 17, 1025))
        phys = PAGE * rng.randint(1, 0xFFFFF)
        return Truth(at, size, rng.choice(_IO), phys=phys, labels=("ioremap",))
    if kind == "vmap":
        return Truth(at, 5 * PAGE, rng.choice(_CALLERS), labels=("vmap",))
    if kind == "odd":
        word = rng.choice(sorted(era.words - {"vpages", "ioremap", "vmalloc", "user"}))
        return Truth(at, 9 * PAGE, "odd_user+0x1/0x20", labels=(word,))
    pages = rng.choice((1, 2, 4, 4, 4, 12, 31, 100, 513, 1025))
    labels = ["vmalloc"]
    labels += ["user"] if rng.random() < 0.2 else []
    labels += ["vpages"] if pages * bits // 8 > PAGE else []
    numa: tuple[tuple[int, int], ...] = ()
    if era.numa:
        other = rng.randint(0, pages)
        numa = tuple((node, n) for node, n in ((0, pages - other), (1, other)) if n)
    return Truth(
        at,
        PAGE * (pages + 1),
        rng.choice(_CALLERS) if bits == 64 else rng.choice(_CALLERS[:-1]),
        pages=pages,
        labels=tuple(labels),
        numa=numa,
    )


def printed(era: Era, bits: int, areas: list[Truth]) -> str:
    """Return what that kernel prints."""
    lines = list(areas)
    if era.nodes > 1 and bits == 64:
        lines.sort(key=lambda area: (area.start >> 16) % era.nodes)
    if era.lazy == "behind":
        lines.sort(key=lambda area: area.plain == "unpurged vm_area")
    return "".join(f"{_line(era, bits, area)}\n" for area in lines)


def _line(era: Era, bits: int, area: Truth) -> str:
    digits = bits // 4
    start, end = (
        _pointer(era, bits, at) for at in (area.start, area.start + area.size)
    )
    line = f"0x{start}-0x{end} {area.size:7d}"
    if area.plain:
        return f"{line} {area.plain}"
    line += f" {area.caller}" if area.caller else ""
    line += f" pages={area.pages}" if area.pages else ""
    if area.phys:
        line += f" phys={area.phys:x}" if era.phys == "bare" else ""
        line += f" phys=0x{area.phys:0{digits}x}" if era.phys == "padded" else ""
    line += "".join(f" {word}" for word in area.labels)
    return line + "".join(f" N{node}={count}" for node, count in area.numa)


def _pointer(era: Era, bits: int, at: int) -> str:
    digits = bits // 4
    if era.pointers == "hashed":
        return f"{random.Random(at).getrandbits(32):0{digits}x}"
    if era.pointers == "zero":
        return "0" * digits
    if era.pointers == "(ptrval)":
        return "(ptrval)" if bits == 32 else "(____ptrval____)"
    return f"{at:0{digits}x}"


def each(change: Callable[[int, str], str]) -> Dialect:
    """Return a dialect that changes each line, from number 1 on."""

    def dialect(text: str) -> str:
        lines = enumerate(text.splitlines(), 1)
        return "".join(f"{change(number, line)}\n" for number, line in lines)

    return dialect


def between(note: str, step: int = 5) -> Dialect:
    """Return a dialect with a note between some lines."""
    return each(lambda n, line: f"{note}\n{line}" if n % step == 0 else line)


def wrapped(width: int, quote: str = "") -> Dialect:
    """Return a dialect of a mailer that breaks lines at blanks."""

    def wrap(_: int, line: str) -> str:
        parts = textwrap.wrap(
            line, width, break_long_words=False, break_on_hyphens=False
        )
        return "\n".join(quote + part for part in parts)

    return each(wrap)


def folded(width: int) -> Dialect:
    """Return a dialect of a terminal that breaks lines anywhere."""
    return each(
        lambda _, line: "\n".join(
            line[at : at + width] for at in range(0, len(line), width)
        )
    )


DIALECTS: dict[str, Dialect] = {
    "as it is": lambda text: text,
    "quoted": each(lambda _, line: f"> {line}"),
    "quoted twice": each(lambda _, line: f">> {line}"),
    "quoted, spaced": each(lambda _, line: f"> > {line}"),
    "with bars": each(lambda _, line: f"| {line}"),
    "indented": each(lambda _, line: f"    {line}"),
    "indented by a tab": each(lambda _, line: f"\t{line}"),
    "numbered by cat": each(lambda n, line: f"{n:6d}\t{line}"),
    "numbered by grep": each(lambda n, line: f"{n}:{line}"),
    "file of grep": each(lambda _, line: f"proc/vmallocinfo:{line}"),
    "file and number": each(lambda n, line: f"/proc/vmallocinfo:{n}:{line}"),
    "dmesg": each(lambda n, line: f"[{n + 11:5d}.{n * 7919 % 1000000:06d}] {line}"),
    "dmesg with level": each(lambda n, line: f"<6>[{n:5d}.345678] {line}"),
    "syslog": each(lambda n, line: f"Mar  3 10:00:{n % 60:02d} host kernel: {line}"),
    "journal": each(
        lambda n, line: f"2024-03-03T10:00:{n % 60:02d}.123456+0100 host cat[4711]: {line}"
    ),
    "logcat": each(
        lambda n, line: f"03-03 10:00:{n % 60:02d}.123  1234  1234 I dump: {line}"
    ),
    "tabs": each(lambda _, line: re.sub(" +", "\t", line)),
    "squeezed": each(lambda _, line: re.sub(" +", " ", line)),
    "wide blanks": each(lambda _, line: re.sub(" +", "   ", line)),
    "blanks behind": each(lambda _, line: f"{line}   "),
    "CR": each(lambda _, line: f"{line}\r"),
    "NUL behind": each(lambda _, line: f"{line}\0"),
    "CR and quoted": each(lambda _, line: f"> {line}\r"),
    "BOM": lambda text: "\ufeff" + text,
    "no last line end": lambda text: text.rstrip("\n"),
    "empty lines": each(lambda _, line: f"{line}\n"),
    "a blank line here and there": between(""),
    "prompt": lambda text: f"root@host:~# cat /proc/vmallocinfo\n{text}root@host:~# \n",
    "prompt in brackets": lambda text: f"[root@host ~]# cat /proc/vmallocinfo\n{text}",
    "short prompt": lambda text: f"# cat /proc/vmallocinfo\n{text}#\n",
    "dots between": between("..."),
    "bracketed dots between": between("[...]"),
    "notes between": between("this one is much larger than on the other host:"),
    "note behind": each(
        lambda n, line: f"{line}   <-- look here" if n % 7 == 0 else line
    ),
    "comment behind": each(
        lambda n, line: f"{line}  # 4 of these" if n % 7 == 0 else line
    ),
    "wrapped at 80": wrapped(80),
    "wrapped at 76": wrapped(76),
    "wrapped at 72": wrapped(72),
    "wrapped and quoted": wrapped(72, "> "),
    "wrapped and indented": wrapped(72, "  "),
    "folded at 80": folded(80),
    "folded at 100": folded(100),
    "coloured": each(
        lambda _, line: f"\x1b[01;31m\x1b[K{line[:6]}\x1b[m\x1b[K{line[6:]}"
    ),
    "a mail": lambda text: f"Hi all,\n\nplease see below.\n\n{text}\n-- \nregards,\nme\n",
    "fenced": lambda text: f"```\n{text}```\n",
    "no-break spaces": each(lambda _, line: line.replace(" ", "\u00a0")),
}

LOSSY: dict[str, Dialect] = {
    "cut at 80": each(lambda _, line: line[:80]),
    "cut at 72": each(lambda _, line: line[:72]),
    "cut at 60": each(lambda _, line: line[:60]),
    "the end is missing": lambda text: text[: len(text) * 2 // 3 - 7],
    "the beginning is missing": lambda text: text[len(text) // 3 + 7 :],
}
