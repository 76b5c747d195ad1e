# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What verbs are asked: lines that make sense, and lines that make none."""

from __future__ import annotations

import argparse
from random import Random
from typing import Sequence

from drgn_vmap.commands import VERBS, module_of

__all__ = ("any_line", "good_line", "good_lines", "verbs_drawn")

#: ``{address}`` is replaced by an address that a sample has.
_GOOD: dict[str, tuple[str, ...]] = {
    "ls": (
        *("", "--json", "--json --all", "--format table --all", "--format csv"),
        *("--pointers auto", "--pointers hashed", "--sort size", "--kind vmap_block"),
    ),
    "blocks": ("", "--json", "--map", "--address {address}"),
    "check": ("",),
    "verify": ("", "--json"),
    "fsck": ("", "--json"),
    "top": (
        *("", "--json", "--openmetrics", "--by module", "--by kind --json"),
        *("--by node", "--by node --openmetrics"),
    ),
    "gaps": ("", "--json", "--fit 64M", "--fit 1P", "--fit 1T --align 1G --json"),
    "addr": (
        *("{address}", "{address} {address} --json", "phys:1000000", "page:{address}"),
        "phys:1000000 {address} --json",
    ),
    "read": (
        *("{address}", "{address} --area --json", "{address} --page 1 --format words"),
        *("{address} --format strings --length 1M", "phys:1000 --format raw -o out"),
    ),
    "direct": ("", "off"),
    "slice": ("-o out", "--data -o out"),
    "report": ("-o out",),
    "diff": ("{vmcore} {vmcore} --json",),
}
_OTHER = ("", "--json")
#: Slicing takes ten times as long as anything else.
_RARE = {"slice": 0.1, "check": 0.1, "report": 0.3, "fsck": 0.7}
_ODD = (
    *("", "-", "--", "0", "-1", "1", "0x", "0x0", "1e3", "9" * 400, "0x" + "f" * 400),
    *(
        "f" * 16,
        "f" * 17,
        "0-ffffffffffffffff",
        "5-4",
        "-5-4",
        "0x1_0",
        "٣",
        "é",
        "\x1b[31m",
    ),
    *(
        "\udcff",
        "\0",
        "\n",
        "%s",
        "{}",
        "%(prog)s",
        "a,b",
        ",",
        "4096",
        "1K",
        "9" * 19 + "T",
    ),
    *("64M", "1P", "3", "--json", "--help", "-h", "--no-such", "-n", "phys:", "page:"),
    *("phys:ffffffffffffffff", "page:0", "phys:-1", "*", "[", "[!", "?" * 50, "*" * 50),
    *("link", "fifo", "folder", "folder/x", "none/x", "there", "x" * 300, "-o", "."),
)
#: A FIFO that nobody writes to is waited for, by any program that reads.
_NEVER_READ = {"fifo"}


def verbs_drawn(draw: Random, count: int) -> list[str]:
    """Return so many verbs: each once before any of them twice, slow ones less often."""
    drawn: list[str] = []
    while len(drawn) < count:
        verbs = [verb for verb in VERBS if verb != "diff"]
        draw.shuffle(verbs)
        if count < len(verbs):
            verbs = [verb for verb in verbs if draw.random() < _RARE.get(verb, 1)]
        drawn += verbs
    return drawn[:count]


def good_lines(verb: str) -> Sequence[str]:
    """Return the lines that make sense of a verb."""
    return _GOOD.get(verb, _OTHER)


def good_line(draw: Random, verb: str, addresses: Sequence[int]) -> tuple[str, ...]:
    """Return a verb with arguments that make sense."""
    words = draw.choice(good_lines(verb)).split()
    return (verb, *(_filled(draw, word, addresses) for word in words))


def any_line(draw: Random, verb: str, addresses: Sequence[int]) -> tuple[str, ...]:
    """Return a verb with arguments that most likely make no sense."""
    known = [option for option in _options(verb)]
    words: list[str] = []
    for _ in range(draw.randrange(8)):
        how = draw.random()
        if how < 0.5 and known:
            names, choices = draw.choice(known)
            words += [draw.choice(names)] if names else []
            if choices and draw.random() < 0.7:
                words.append(draw.choice(choices))
            elif draw.random() < 0.5:
                words.append(draw.choice(_ODD))
        elif how < 0.6:
            words.append(hex(draw.choice(addresses)))
        else:
            words.append(draw.choice(_ODD))
    if verb in ("read", "report", "slice") and draw.random() < 0.7:
        words += [
            "-o",
            draw.choice(("out", "there", "folder", "link", "none/x", "x" * 300)),
        ]
    if "-o" not in words[:-1]:
        words = [word for word in words if word not in _NEVER_READ]
    return (verb, *words)


def _filled(draw: Random, word: str, addresses: Sequence[int]) -> str:
    address = draw.choice(addresses) + draw.choice((0, 0, 0, -1, 8, 4096))
    return word.replace("{address}", f"{address % (1 << 64):x}")


def _options(verb: str) -> list[tuple[Sequence[str], Sequence[str]]]:
    """Return the names and the choices of each argument that a verb has."""
    parser = argparse.ArgumentParser()
    module_of(verb).add_arguments(parser)
    return [
        (action.option_strings, [str(choice) for choice in action.choices or ()])
        for action in parser._actions
    ]
