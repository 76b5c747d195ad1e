# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What ``make fuzz`` counts, it sees: each kind of failure is planted in a verb of these
tests' own. And what is done to a sample is what the input says, and nothing else.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Callable, Optional, Sequence

import pytest
from drgn import FaultError, Program

from drgn_vmap.errors import UsageError
from tests.fuzz.image import PAGE, Image
from tests.fuzz.inputs import Cut, Input, Lose, Note, Write, load, save
from tests.fuzz.source import KINDS, Sampled, Source
from tests.fuzz.trial import Limits, Target, Trials
from tests.fuzz.verdict import wrong
from tests.samples import Sample, samples

LIMITS = Limits(seconds=1, resident=64 << 20, address_space=512 << 20)
JSON = json.dumps({"schema": 1, "command": "ls", "problems": []})
OPENMETRICS = "# TYPE a gauge\na 1\n# EOF\n"

Planted = Callable[[Sequence[str]], int]


def tried(planted: Planted, *words: str, times: int = 1) -> list[str]:
    """Return the failures that are seen of a verb that does this so many times."""

    def run(verb: str, prog: Optional[Program], argv: Sequence[str]) -> int:
        return planted(argv)

    input_ = Input("1-1", "planted", "", (words or ("ls",),) * times)
    outcome = Trials({}, LIMITS, run).outcome(input_)
    return [failure.what for failure in outcome.failures]


def printing(status: int, out: str = "", err: str = "") -> Planted:
    """Return a verb that prints."""

    def run(argv: Sequence[str]) -> int:
        sys.stdout.write(out)
        sys.stderr.write(err)
        return status

    return run


def writing(text: str) -> Planted:
    """Return a verb that writes a file."""

    def run(argv: Sequence[str]) -> int:
        Path(argv[-1]).write_text(text)
        return 0

    return run


def raising(argv: Sequence[str]) -> int:
    raise UsageError("nobody caught this")


def recursing(argv: Sequence[str]) -> int:
    return recursing(argv)


def leaving(argv: Sequence[str]) -> int:
    sys.exit(1)


def spinning(argv: Sequence[str]) -> int:
    while True:
        pass


def spinning_inside(argv: Sequence[str]) -> int:
    return sum(iter(int, 1))


def sleeping(argv: Sequence[str]) -> int:
    time.sleep(60)
    return 0


def hoarding(argv: Sequence[str]) -> int:
    # Not from the heap, which may have as much that is free.
    with mmap.mmap(-1, 100 << 20) as memory:
        memory[:: mmap.PAGESIZE] = b"x" * (len(memory) // mmap.PAGESIZE)
    return 0


def greedy(argv: Sequence[str]) -> int:
    return len(bytearray(1 << 30)) and 0


def aborting(argv: Sequence[str]) -> int:
    os.abort()


def littering(argv: Sequence[str]) -> int:
    Path("out.tmp").touch()
    return printing(2, err="vmap ls: it failed: try again\n")(argv)


@pytest.mark.parametrize(
    "planted, seen",
    [
        (raising, "traceback"),
        (recursing, "traceback"),
        (leaving, "traceback"),
        (
            printing(0, err="Traceback (most recent call last):\n"),
            "traceback on stderr",
        ),
        (spinning, "hang"),
        (spinning_inside, "hang"),
        (sleeping, "hang"),
        (hoarding, "memory"),
        (greedy, "memory"),
        (aborting, "crash"),
        (printing(3), "exit status"),
        (printing(True), "exit status"),
        (printing(0, "\x1b[31m"), "not escaped"),
        (printing(0, err="\u202e"), "not escaped"),
        (printing(2), "not one line on stderr with status 2"),
        (
            printing(2, err="vmap ls: a\nvmap ls: b\n"),
            "not one line on stderr with status 2",
        ),
        (printing(2, "x", "vmap ls: a\n"), "output with status 2"),
        (littering, "left behind"),
    ],
)
def test_a_failure_is_seen(planted: Planted, seen: str) -> None:
    """Each kind of end and of output that verbs must not have."""
    assert tried(planted) == [seen]


def test_memory_of_before_hides_none() -> None:
    """Neither what the process got from its parent, nor what an earlier run gave back."""
    size = 200 << 20
    held = b"x" * size
    assert tried(hoarding, times=2) == ["memory", "memory"]
    assert len(held) == size


@pytest.mark.parametrize(
    "words, good, bad",
    [
        ("ls --json", JSON, JSON[:-1]),
        ("ls --json", JSON, JSON + JSON),
        ("ls --json", JSON, JSON.replace("1", "NaN")),
        ("ls --format json", JSON, "{}"),
        ("ls --format csv", "a,b\n1,2\n", "a,b\n1\n"),
        ("top --openmetrics", OPENMETRICS, OPENMETRICS.replace("1", "x")),
        ("top --openmetrics", OPENMETRICS, "# TYPE a gauge\na 1\n"),
    ],
)
def test_an_invalid_format_is_seen(words: str, good: str, bad: str) -> None:
    """What programs read is parsed."""
    assert tried(printing(1, good), *words.split()) == []
    (found,) = tried(printing(1, bad), *words.split())
    assert found.startswith("invalid ")


def test_an_invalid_file_is_seen() -> None:
    """So are the files that verbs write."""
    assert tried(writing("<html><p>x</p></html>"), "report", "-o", "out") == []
    for text in ("<html><p>x</html>", "<html></p></html>", "<p>x</p>"):
        assert tried(writing(text), "report", "-o", "out") == ["invalid HTML"]
    assert tried(writing("\x7fELF"), "slice", "-o", "out") == ["invalid slice"]


def test_what_is_well_is_left_alone() -> None:
    """Ordinary ends are no failures, and files are where arguments say."""
    assert tried(printing(0, "a b\n")) == []
    assert tried(printing(2, err="vmap ls: it failed: try again\n")) == []

    def reading(argv: Sequence[str]) -> int:
        return int(Path(argv[0]).read_bytes() != b"content")

    input_ = Input(
        "1-1", "planted", "", (("ls", "f"),), files=(("f", b"content".hex()),)
    )
    seen = Trials({}, LIMITS, lambda verb, prog, argv: reading(argv)).outcome(input_)
    assert seen.failures == [] and [*seen.seconds] == ["ls"]


def test_runs_go_on_after_a_failure() -> None:
    """One that raises does not hide the next one's failure."""

    def run(verb: str, prog: Optional[Program], argv: Sequence[str]) -> int:
        if verb == "ls":
            raise KeyError(verb)
        return 7

    input_ = Input("1-1", "planted", "", (("ls",), ("top",), ("ls",)))
    failures = Trials({}, LIMITS, run).outcome(input_).failures
    assert [(f.what, f.verb) for f in failures] == [
        ("traceback", "ls"),
        ("exit status", "top"),
        ("traceback", "ls"),
    ]


@pytest.fixture(scope="module")
def sample() -> Sample:
    """The smallest."""
    return min(samples(), key=lambda sample: sample.unpacked_bytes)


@pytest.fixture
def image(sample: Sample, tmp_path: Path) -> Image:
    return Image(sample.name, sample.unpack(tmp_path / "core").read_bytes())


def test_damage_is_what_the_input_says(image: Image) -> None:
    """The same in a fresh vmcore's file as in a program that was there before."""
    load = max(image.loads, key=lambda load: load.size)
    lost = image.loads[3].physical
    frame = lost // PAGE
    edits = (Write(load.offset + 8, "0102", "there"), Lose(frame))
    fresh, _ = image.open_file(edits)
    warm = image.program()
    before = warm.read(load.physical, 16, True)
    image.damage(edits)
    for prog in (fresh, warm):
        read = prog.read(load.physical, 16, True)
        assert read == before[:8] + b"\x01\x02" + before[10:]
        with pytest.raises(FaultError):
            prog.read(lost + 5, 1, True)
        assert prog["VMCOREINFO"].string_() == image.vmcoreinfo


def test_damage_of_a_file(image: Image) -> None:
    """Another VMCOREINFO, and a file that ends early."""
    other = image.vmcoreinfo.replace(b"OSRELEASE=", b"OSRELEASE=7")
    prog, name = image.open_file((Note(other.hex()),))
    assert prog["VMCOREINFO"].string_() == other != image.vmcoreinfo
    assert Path(name).stat().st_size > len(image.data)
    with pytest.raises(Exception):
        image.open_file((Cut(60),))


def test_damage_stays_in_its_process(image: Image) -> None:
    """What is tried next is undamaged."""
    prog = image.program()
    load = image.loads[0]

    def run(verb: str, prog: Optional[Program], argv: Sequence[str]) -> int:
        assert prog
        return int(prog.read(load.physical, 4, True) == b"\xaa" * 4)

    edits = (Write(load.offset, "aa" * 4, "there"),)
    for fresh in (False, True):
        input_ = Input("1-1", "planted", image.name, (("ls",),), edits, fresh)
        trials = Trials({image.name: Target(image, prog)}, LIMITS, run)
        assert trials.outcome(input_).failures == []
    assert prog.read(load.physical, 4, True) != b"\xaa" * 4


def test_inputs_are_the_seeds(sample: Sample, tmp_path: Path) -> None:
    """A seed and a number make the same input, wherever it is drawn; of every kind."""
    data = sample.unpack(tmp_path / "core").read_bytes()
    sampled = {sample.name: Sampled(sample.name, data, sample.vmallocinfo)}
    source = Source(sampled, "1", 3, [*KINDS])
    again, other = Source(sampled, "1", 3, [*KINDS]), Source(sampled, "2", 3, [*KINDS])
    inputs = [source.input(number) for number in range(100)]
    assert [again.input(number) for number in reversed(range(100))] == inputs[::-1]
    assert [other.input(number) for number in range(100)] != inputs
    assert {input_.kind for input_ in inputs} == {*KINDS}
    for input_ in inputs:
        assert len(input_.runs) == 3
        assert bool(input_.edits) == (input_.kind not in ("arguments", "saved"))
        assert bool(input_.files) == (input_.kind == "saved")


def test_an_input_is_saved_whole(tmp_path: Path) -> None:
    """What is read back is what was tried."""
    input_ = Input(
        "1-1",
        "words",
        "6.1",
        (("ls", "--caller", "\udcff"), ("top",)),
        (Write(1, "00ff", "word"), Lose(2), Cut(3), Note("41")),
        True,
        (("old", "00"),),
    )
    save(input_, tmp_path / "input", failure=["remark"])
    assert load(tmp_path / "input") == input_


def test_json_in_a_file_is_judged_there(tmp_path: Path) -> None:
    """What -o names has the document; standard output has it without."""
    good = json.dumps({"schema": 1, "command": "read", "problems": []})
    (tmp_path / "out").write_text(good)
    inside = ("read", "--json", "0x0", "-o", "out")
    assert [*wrong(inside, 0, b"", b"", tmp_path)] == []
    assert [*wrong(inside[:3], 0, good.encode(), b"", tmp_path)] == []
    (tmp_path / "out").write_text("{")
    for argv in (inside, inside[:3]):
        [failure] = wrong(argv, 0, b"", b"", tmp_path)
        assert failure.what == "invalid JSON"
