# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draws inputs: the same ones for the same seed, whatever the machine's speed."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Iterator, Mapping

from drgn import Program

from drgn_vmap import commands, take_snapshot
from drgn_vmap.commands import VERBS
from tests.samples import samples

from .arguments import any_line, good_line, good_lines, verbs_drawn
from .damage import Damage
from .image import Image
from .inputs import Edit, Input
from .places import Places
from .saved import Saved
from .short_tables import SHORT, with_short_tables
from .trial import VMCORE, Target

__all__ = ("KINDS", "Sampled", "Source", "open_samples", "targets")

KINDS: Mapping[str, int] = {
    "members": 30,
    "words": 20,
    "pages": 10,
    "fresh": 10,
    "types": 10,
    "vmcoreinfo": 8,
    "activity": 2,
    "elf": 10,
    "arguments": 10,
    "saved": 20,
}
"""Kinds of damage, and how often each is tried; ``fresh`` is any of the first three."""
_FRESH = ("members", "words", "pages")
_SHARE_OF_SHORT = 0.9
"""Of damage to types and names, how much is done to short tables."""
_SHARE_OF_DIFF = 0.1
"""Of inputs whose file is opened, how many are compared with themselves."""
_SAVING = ("ls --json", "ls --format csv")
#: What is seen to read a vmcore. (A slice reads BTF and kallsyms once more.)
_READERS = (
    *(*_SAVING, "ls --all --pointers auto", "blocks", "fsck", "verify", "gaps"),
    *("top --by node", "addr phys:1000000", "report -o {folder}/out"),
)


class Sampled:
    """A sample, what is in it, and what can be wrong with it."""

    def __init__(self, name: str, data: bytes, vmallocinfo: bytes) -> None:
        image = Image(name, data)
        # All verbs run on it, and then it is what damage is done to: what it has kept
        # is types and names.
        prog = image.program()
        take_snapshot(prog)
        saved, reads = _recorded(image, prog)
        self.target = Target(image, prog)
        self.places = Places(prog, image, reads)
        self.damage = Damage(image, self.places, prog)
        short = with_short_tables(image, self.places)
        self.short_target = Target(short, short.program())
        self.short_damage = Damage(short, self.places, prog)
        json, csv = (saved[words] for words in _SAVING)
        self.saved = Saved(json, csv, vmallocinfo, image.data)
        self.addresses = [
            int(area.va_start) for area in self.places.objects["vmap_area"]
        ]
        self.addresses += [
            int(area.address_) for area in self.places.objects["vm_struct"]
        ]


class Source:
    """
    Draws inputs.

    :param runs: Verbs of each input.
    :param kinds: Those to draw, of :data:`KINDS`.
    """

    def __init__(
        self, sampled: Mapping[str, Sampled], seed: str, runs: int, kinds: list[str]
    ) -> None:
        self._sampled = sampled
        self._seed = seed
        self._runs = runs
        self._kinds = kinds

    def input(self, number: int) -> Input:
        """Return an input."""
        return self._drawn(f"{self._seed}-{number}")

    def named(self, name: str) -> Input:
        """Return the input of a name, whatever its seed was."""
        undamaged = {input_.name: input_ for input_ in self.undamaged()}
        return undamaged.get(name) or self._drawn(name)

    def undamaged(self) -> Iterator[Input]:
        """Yield every line that makes sense, on samples with which nothing is wrong."""
        for name, sample in self._sampled.items():
            draw = Random(name)
            runs = tuple(
                (verb, *line.format(address=hex(address), vmcore=VMCORE).split())
                for verb in VERBS
                for line in good_lines(verb)
                for address in [draw.choice(sample.addresses)]
            )
            yield Input(f"undamaged-{name}", "undamaged", name, runs, fresh=True)

    def _drawn(self, id_: str) -> Input:
        draw = Random(id_)
        (kind,) = draw.choices(self._kinds, [KINDS[kind] for kind in self._kinds])
        name = draw.choice([*self._sampled])
        sample = self._sampled[name]
        damage = sample.damage
        if kind == "types" and draw.random() < _SHARE_OF_SHORT:
            name, damage = name + SHORT, sample.short_damage
        verbs = verbs_drawn(draw, self._runs)
        if kind == "saved":
            files, lines = sample.saved.draw(draw, self._runs)
            return Input(id_, kind, "", lines, files=files)
        if kind == "arguments":
            verbs = [*verbs[1:], "diff"] if draw.random() < 0.1 else verbs
            asked = [any_line(draw, verb, sample.addresses) for verb in verbs]
            return Input(id_, kind, name, tuple(asked))
        runs = [good_line(draw, verb, sample.addresses) for verb in verbs]
        how = draw.choice(_FRESH) if kind == "fresh" else kind
        edits: tuple[Edit, ...] = tuple(getattr(damage, how)(draw))
        fresh = kind not in _FRESH
        if fresh and draw.random() < _SHARE_OF_DIFF:
            runs[-1] = ("diff", VMCORE, VMCORE)
        return Input(id_, kind, name, tuple(runs), edits, fresh)


def open_samples() -> dict[str, Sampled]:
    """Return all samples, by name."""
    found = {}
    with TemporaryDirectory() as folder:
        for sample in samples():
            data = sample.unpack(Path(folder, sample.name)).read_bytes()
            found[sample.name] = Sampled(sample.name, data, sample.vmallocinfo)
    return found


def targets(sampled: Mapping[str, Sampled]) -> dict[str, Target]:
    """Return what inputs are tried on, by name: samples, and these with short tables."""
    whole = {name: sample.target for name, sample in sampled.items()}
    short = {name + SHORT: sample.short_target for name, sample in sampled.items()}
    return {**whole, **short}


def _recorded(
    image: Image, prog: Program
) -> tuple[dict[str, bytes], list[tuple[int, int]]]:
    """Return what is printed of an image to be saved, and all that verbs read of it."""
    reads: list[tuple[int, int]] = []
    image.on_read = lambda at, count: reads.append((at, count))
    saved = {}
    for words in _READERS:
        with TemporaryDirectory() as folder:
            argv = [word.format(folder=folder) for word in words.split()]
            output = io.StringIO()
            with redirect_stdout(output), redirect_stderr(io.StringIO()):
                commands.run(argv[0], prog, argv[1:])
            if words in _SAVING:
                saved[words] = output.getvalue().encode()
    image.on_read = None
    return saved, reads
