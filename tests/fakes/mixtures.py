# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Mixtures
--------

Texts in which what stands before a line, damage, other logs, ends of lines and snapshots
come together by chance.
"""

from __future__ import annotations

import random
from typing import Callable

from .dialects import ERAS, areas_of, printed

__all__ = ("mixture",)

Prefix = Callable[[int], str]

PREFIXES: tuple[Prefix, ...] = (
    *(lambda _: "", lambda _: "    ", lambda _: "\t", lambda _: " "),
    *(lambda _: "> ", lambda _: ">> ", lambda _: ">", lambda _: "| "),
    lambda n: f"[{n:5d}.{n * 7919 % 1000000:06d}] ",
    lambda n: f"<6>[{n:5d}.345678] ",
    lambda n: f"[{n:5d}.345678][ T{n % 7}] ",
    lambda n: f"[{n:5d}.345678][T{n * 7919 % 100000}] ",
    lambda n: f"[Mon Nov 30 10:{n % 60:02d}:00 2020] ",
    lambda n: f"Mar  3 10:00:{n % 60:02d} host kernel: ",
    lambda n: f"2024-03-03T10:00:{n % 60:02d}.123456+0100 host cat[4711]: ",
    lambda n: f"2024-03-03T10:00:{n % 60:02d}Z ",
    lambda n: f"2024-03-03T10:00:{n % 60:02d} ",
    *(lambda n: f"{n}:", lambda n: f"file:{n}:", lambda _: "file:"),
    *(lambda n: f"{n:6d}\t", lambda n: f"{n} ", lambda n: f"{n:3d} "),
)
"""What tools put before a line, by its number."""
ODD_PREFIXES = (
    *("vmalloc ", "pages=3 ", "pages=3: ", "N0=4 ", "N0=", "x+0x1/0x2 ", "[mod] "),
    *("unpurged vm_area ", "x", "a_", "a. ", "é", "é: ", "\u00a0", "\x1b[01;31m"),
    *(
        "\x1b[m> ",
        "\0> ",
        "\x0b ",
        "\x7f: ",
        "\ufeff",
        "\ufeff> ",
        "-0x ",
        "0x12345678: ",
        "(",
        "[",
        "]",
    ),
    *("0x12345678-0x12345679 ", "0x(ptrval)-0x(ptrval) "),
)
"""What may be part of a line, runs into it, or is no text."""
NOTES = (
    *("", "...", "-----", "Mon Mar 3 10:00:00 CET 2024", "usb 1-1: new device"),
    *("0xffff", "pages=3 vmalloc", "vmalloc N0=4", "12", "N1=3", "vm_map_ram"),
    *("x+0x1/0x2 [m] vmap", "# cat /proc/vmallocinfo"),
)
ENDS = ("  ", "\t", "\0", "\r", "\r\r", " \r", " <-- look", " # 4 of these", "\x1b[m")
SIGNS = "0123456789abcfxzN= +-/[]_.\r\t<(#"


def mixture(seed: int) -> str:
    """Return one of the texts."""
    rng = random.Random(seed)
    era, bits = rng.choice(ERAS), rng.choice((32, 64))
    damage, changes, noise = (rng.choice((0, 0, 0.05, 0.3)) for _ in range(3))
    prefix = _prefix(rng)
    number = rng.choice((0, 9, 95, 9990))
    found: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        areas = areas_of(era, bits, rng.choice((3, 12, 30)), rng.randrange(5))
        for line in printed(era, bits, areas).splitlines():
            number += 1
            if rng.random() < changes:
                prefix = _prefix(rng)
            before = prefix(number)
            damaged = rng.random() < damage
            found += _damaged(before, line, rng) if damaged else [before + line]
            if rng.random() < noise:
                found.append(rng.choice((before, "")) + rng.choice(NOTES))
    end = rng.choice(("\n", "\n", "\n", "\r\n"))
    return end.join(found) + rng.choice((end, end, end, ""))


def _prefix(rng: random.Random) -> Prefix:
    odd = rng.choice(ODD_PREFIXES)
    return rng.choice(PREFIXES) if rng.random() < 0.8 else lambda _: odd


def _damaged(before: str, line: str, rng: random.Random) -> list[str]:
    """Return what becomes of a line."""
    at = rng.randrange(len(line))
    blank = line.find(" ", at) % len(line)
    return rng.choice(
        (
            [],
            [before + line[:at]],
            [before + line[:at] + line[at + 1 :]],
            [before + line[:at] + rng.choice(SIGNS) + line[at + 1 :]],
            [before + line[:blank], before + line[blank + 1 :]],
            [before + line[:blank], line[blank + 1 :]],
            [before + line[:at], line[at:]],
            [before + line, before + line],
            [before + line + rng.choice(ENDS)],
            [before + line + " " + line],
            [before + " ".join(line.split())],
            [before + rng.choice(NOTES), before + line],
            [rng.choice(NOTES), before + line],
        )
    )
