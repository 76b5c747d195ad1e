# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Every verb on the samples in vmcores/, by nothing but drgn and the sample itself, against
what the guests' own kernels and the fixture module said when they were made.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import pytest
from drgn import FaultError, Program

from drgn_vmap import load_types
from drgn_vmap.commands import run
from tests.expect.areas import expect_kinds
from tests.expect.blocks import expect_blocks
from tests.expect.html import Page
from tests.expect.places import NOT_IN_USE, expect_frames, expect_pages, frames_of
from tests.expect.slices import fills, frames
from tests.lab.truth import Mapping, Truth
from tests.lab.walked import walked
from tests.pages import Shown, matches, shown_commands
from tests.running import answers, command, drgn
from tests.samples import SAMPLES_DIR, Sample, samples

#: Where make demo unpacks a sample to.
UNPACKED = "build/linux-"
#: What docs/ shows of what is shipped.
SHOWN = [
    shown
    for shown in shown_commands("vmap")
    if any(word.startswith((UNPACKED, "docs/samples/")) for word in shown.words)
]
#: What a person types at drgn's prompt.
COMMAND = """from drgn.commands import run_command
run_command(prog, "vmap ls --pointers auto")
"""
PAGE = 4096
MIB = 1 << 20
NAMES = ("5.10", "6.1", "6.12", "7.3")
#: 5.10 keeps what was freed lazily where drgn has no helper to walk; pools came with
#: nodes, and those of the 6.12 guest were empty.
STATES_LISTED = {
    "5.10": {"busy", "free"},
    "6.1": {"busy", "free", "lazy"},
    "6.12": {"busy", "free", "lazy"},
    "7.3": {"busy", "free", "lazy", "pool"},
}
VERDICTS = {"5.10": "not-fixed", "6.1": "not-fixed", "6.12": "fixed", "7.3": "fixed"}


@dataclass(frozen=True)
class Opened:
    """A sample, unpacked and opened without any debug info."""

    sample: Sample
    path: Path
    prog: Program
    truth: Truth

    @property
    def live(self) -> list[Mapping]:
        """The module's mappings that there are."""
        return [mapping for mapping in self.truth.mappings if mapping.live]

    def run(self, verb: str, *args: str, status: int = 0) -> str:
        """Run a verb, see that it ends as it should, and return what it prints."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert run(verb, self.prog, args) == status, err.getvalue()
        assert err.getvalue() == ""
        return out.getvalue()

    def cannot(self, verb: str, why: str, *args: str) -> None:
        """See that a verb says in one line why it cannot."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert run(verb, self.prog, args) == 2
        assert out.getvalue() == "" and err.getvalue().count("\n") == 1
        assert why in err.getvalue()

    def json(self, verb: str, *args: str, status: int = 0) -> Any:
        """Return the JSON of a verb that met no problem."""
        document = json.loads(self.run(verb, "--json", *args, status=status))
        assert document["problems"] == []
        assert document["kernel"]["symbols"] == "btf"
        assert document["kernel"]["release"] == self.sample.release
        return document


@pytest.fixture(scope="module", params=samples(), ids=lambda sample: sample.name)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    """Each of the samples, with the types and names that it carries."""
    path = request.param.unpack(tmp_path_factory.mktemp("sample") / "slice")
    prog = Program()
    prog.set_core_dump(path)
    load_types(prog)
    yield Opened(request.param, path, prog, Truth.parse(request.param.truth))
    path.unlink()


def test_manifest() -> None:
    """There is a sample of each kernel, all of it as listed, and none is large."""
    assert tuple(sample.name for sample in samples()) == NAMES
    files = {"README.md", "manifest.json"}
    for sample in samples():
        files.add(sample.packed.name)
        for suffix, sha256 in sample.sha256_of.items():
            path = SAMPLES_DIR / f"{sample.name}.{suffix}"
            assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
            files.add(path.name)
    assert {path.name for path in SAMPLES_DIR.iterdir()} == files
    assert sum(path.stat().st_size for path in SAMPLES_DIR.iterdir()) < 12 * MIB


def test_unpacked(opened: Opened) -> None:
    """It is the file that was packed."""
    data = opened.path.read_bytes()
    assert len(data) == opened.sample.unpacked_bytes
    assert hashlib.sha256(data).hexdigest() == opened.sample.unpacked_sha256


def test_plain_drgn(opened: Opened) -> None:
    """What a person types prints /proc/vmallocinfo as it was, byte for byte."""
    done = drgn("-c", opened.path, "scripts/vmap_ls.py", "--pointers", "auto")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == opened.sample.vmallocinfo.decode()


def test_plugin(opened: Opened, tmp_path: Path) -> None:
    """What is installed makes %vmap a command of drgn's, wherever that is started."""
    script = tmp_path / "script.py"
    has_commands = importlib.util.find_spec("drgn.commands") is not None
    script.write_text(COMMAND if has_commands else "")
    command = [sys.executable, "-m", "drgn", "-q", "-c", str(opened.path), "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    # A plugin that cannot be loaded would say so.
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (opened.sample.vmallocinfo if has_commands else b"")


def test_command(opened: Opened) -> None:
    """The command opens the sample itself, and prints what the script does."""
    for verb, *args in (["ls", "--pointers", "auto"], ["fsck", "--json"]):
        done = command(verb, "-c", opened.path, *args)
        said = drgn("-c", opened.path, f"scripts/vmap_{verb}.py", *args)
        assert (
            (done.returncode, done.stderr) == (said.returncode, said.stderr) == (0, "")
        )
        assert done.stdout == said.stdout
    assert done.stdout.startswith("{") and len(opened.run("ls")) > 1000


def test_without_siphash(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashed addresses need it alone: who has none is told, and others are listed."""
    monkeypatch.setitem(sys.modules, "siphash24", None)
    opened.cannot("ls", "python3-siphash24", "--pointers", "auto")
    assert opened.run("ls", "--pointers", "zero").startswith("0x0000000000000000-0x")


def test_places(opened: Opened) -> None:
    """Addresses may be ranges that ls prints, and symbols."""
    first = opened.run("ls").split(None, 1)[0]
    start, _, end = first.partition("-")
    [of_range] = opened.json("addr", first)["addresses"]
    assert [of_range] == opened.json("addr", start)["addresses"]
    # What areas hold is in no sample.
    read = json.loads(opened.run("read", "--json", first, status=1))
    assert (read["start"], read["size"]) == (start, int(end, 16) - int(start, 16))
    inside = hex(int(start, 16) + 5)
    assert opened.run("ls", "--range", inside).split(None, 1)[0] == first
    symbol = opened.prog.symbol("init_mm").address
    [named] = opened.json("addr", "init_mm+0x10")["addresses"]
    assert named["address"] == hex(symbol + 0x10)


@pytest.mark.parametrize("shown", SHOWN, ids=str)
def test_pages(shown: Shown, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What docs/ shows of a sample, as make demo unpacks it, is what is printed."""
    words = list(shown.words[1:])
    for at, word in enumerate(words):
        if word.startswith(UNPACKED):
            [sample] = [one for one in samples() if UNPACKED + one.name == word]
            path = tmp_path_factory.mktemp("page") / "vmcore"
            words[at] = str(sample.unpack(path))
    done = command(*words)
    assert done.returncode in (0, 1), done.stderr
    assert matches(shown.lines, done.stdout.splitlines()), done.stdout


def test_ls(opened: Opened) -> None:
    """Each of the module's areas is of the kind it was made as; the file has them all."""
    areas = opened.json("ls")["areas"]
    expect_kinds(areas, opened.truth)
    listed = opened.sample.vmallocinfo.decode().splitlines()
    assert sum(area["state"] == "busy" for area in areas) == sum(
        not line.endswith(" unpurged vm_area") for line in listed
    )


def test_blocks(opened: Opened) -> None:
    """Page for page and block for block, they hold what the module put there."""
    expect_blocks(opened.json("blocks"), opened.truth, opened.sample.name)
    assert "#" in opened.run("blocks", "--map")


def test_addr(opened: Opened) -> None:
    """Each page is where the module says, by virtual and by physical address."""
    mappings = opened.truth.mappings
    pages = [
        hex(mapping.address + index * PAGE)
        for mapping in mappings
        for index in range(mapping.pages)
    ]
    places = opened.json("addr", *pages)["addresses"]
    assert [place["address"] for place in places] == pages
    assert expect_pages(places, opened.truth) > 1000
    freed = {m.address for m in mappings if not m.live and m.area == "own"}
    states = [p["area"]["state"] for p in places if int(p["address"], 16) in freed]
    assert "lazy" in states and set(states) <= NOT_IN_USE
    page = int(opened.prog["vmemmap"].value_())
    assert "page:" in opened.run("addr", f"page:{page:x}")
    expect_frames(
        opened.json("addr", *frames_of(opened.truth))["addresses"], opened.truth
    )


def test_states_of_the_kernels_lists(opened: Opened) -> None:
    """What lies on a list of free, lazy or pooled areas is found there, to the byte."""
    ranges = [
        (start, end, state)
        for state, areas in walked(opened.prog).items()
        for start, end in areas
        if start
    ]
    assert {state for _, _, state in ranges} == STATES_LISTED[opened.sample.name]
    asked = [hex(start) for start, _, _ in ranges]
    asked += [hex(end - 1) for _, end, _ in ranges]
    places = opened.json("addr", *asked)["addresses"]
    for (start, end, state), place in zip([*ranges, *ranges], places):
        area = place["area"]
        found = (area["start"], area["end"], area["state"])
        assert found == (hex(start), hex(end), state)
    assert len(places) == len(asked) > 300


def test_top(opened: Opened) -> None:
    """Its sum is the kernel's own count, which the guest's /proc/meminfo showed."""
    found = opened.json("top")["reconciliation"]
    assert found["verdict"] == "equal"
    assert found["summed_pages"] * PAGE // 1024 == opened.sample.vmalloc_used_kib


def test_gaps(opened: Opened) -> None:
    """Areas, pools and gaps fill vmalloc space to the byte, or but for what is in transit."""
    found = opened.json("gaps")
    states = ("busy", "lazy", "purging", "pool", "free", "unaccounted")
    assert found["total"] == sum(found[state] for state in states)
    assert found["total"] == 32 << 40
    assert found["unaccounted"] < MIB
    assert "fits" in opened.run("gaps", "--fit", "1M")


def test_fsck(opened: Opened) -> None:
    """The guests' kernels were healthy."""
    verdicts = {
        check["id"]: check["verdict"] for check in opened.json("fsck")["checks"]
    }
    assert set(verdicts.values()) <= {"ok", "skipped"}, verdicts
    assert list(verdicts.values()).count("ok") > 10


def test_verify(opened: Opened) -> None:
    """The series came in 6.3."""
    verdict = VERDICTS[opened.sample.name]
    found = opened.json("verify", status=1)
    assert found["verdict"] == verdict
    # No vmcore shows how its kernel's reader of blocks did.
    known = [(one["id"], one["verdict"]) for one in found["findings"]]
    assert known == [("vmap-block-reader", "unknown")] * (verdict == "fixed")


def test_report(opened: Opened, tmp_path: Path) -> None:
    """It names the module's callers, and ends no sentence in the middle."""
    path = tmp_path / "report"
    for look in ("html", "text"):
        opened.run("report", "--format", look, "-o", str(path))
        text = path.read_text(encoding="utf-8")
        text = Page(text).text if look == "html" else text
        assert "map_vmalloc+" in text and opened.sample.release in text
        assert " characters)" not in text


def test_diff(opened: Opened, tmp_path: Path) -> None:
    """What the filter takes away is told as removed; a slice is what `ls` says of it."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.write_text(opened.run("ls", "--json"))
    part.write_text(opened.run("ls", "--json", "--kind", "vmalloc"))
    slice_ = str(opened.path)
    for old, new in ((whole, whole), (whole, slice_), (slice_, slice_)):
        same = opened.json("diff", str(old), str(new))
        assert same["common"] > 100 and same["kernel"] == same["old_kernel"]
        assert same["added"] == same["removed"] == same["grown"] == []
    document = opened.json("diff", slice_, str(part), status=1)
    removed = {area["start"] for area in document["removed"]}
    vmaps = {hex(m.address) for m in opened.live if m.kind == "vmap"}
    assert len(vmaps) == 3 and vmaps <= removed


def test_mem_usage(opened: Opened) -> None:
    """A slice is no damaged vmcore: it is told why it cannot have the answer."""
    opened.cannot("mem-usage", "a slice has too little of RAM: ask the vmcore")
    opened.cannot(
        "mem-usage", "a slice has too little of RAM: ask the vmcore", "--json"
    )


def test_slice(opened: Opened, tmp_path: Path) -> None:
    """A slice of it is the same file: verbs read all that is in it, and nothing else."""
    again = tmp_path / "slice"
    if not hasattr(Program, "set_linux_kernel_custom"):
        opened.cannot("slice", "0.1.0 is needed", "-o", str(again))
        assert list(tmp_path.iterdir()) == []
        return
    opened.run("slice", "-o", str(again))
    assert again.read_bytes() == opened.path.read_bytes()


def test_without_trees(tmp_path: Path) -> None:
    """A kernel whose areas have no rb_node lists them, also in a slice of it."""
    sample = samples()[-1]
    path, sliced = sample.unpack(tmp_path / "vmcore"), tmp_path / "slice"
    data = path.read_bytes()
    assert data.count(b"\0rb_node\0") == 1
    path.write_bytes(data.replace(b"\0rb_node\0", b"\0xx_node\0"))
    slicing = drgn("-c", path, "scripts/vmap_slice.py", "-o", sliced)
    can_slice = hasattr(Program, "set_linux_kernel_custom")
    assert slicing.returncode == (0 if can_slice else 2)
    for target in (path, sliced) if can_slice else (path,):
        listed = drgn("-c", target, "scripts/vmap_ls.py", "--pointers", "auto")
        assert listed.stdout == sample.vmallocinfo.decode()


def test_no_data(opened: Opened) -> None:
    """None of the pages that the module filled is in it; reading one is a fault."""
    there = frames(opened.path)
    assert fills(opened.path.read_bytes()) == []
    filled = [mapping for mapping in opened.live if mapping.fill is not None]
    assert len(filled) > 20
    for mapping in filled:
        assert not there & set(mapping.pfns)
        with pytest.raises(FaultError):
            opened.prog.read(mapping.address, 8)
        with pytest.raises(FaultError):
            opened.prog.read(mapping.pfns[0] * PAGE, 8, physical=True)


#: Names in a sample's memory, and what a hostile machine may have there instead.
HOSTILE = {
    b"\0map_vmalloc\0": b"\0<script>\x1b[2\0",
    b"vmap_lab\0": b"<u>\x9b\x1b[2J\0",
    b"OSRELEASE=7.3.4": b"OSRELEASE=<b>\x1b[",
}


def test_hostile_names(tmp_path: Path) -> None:
    """Symbols, modules and a release are text in what each verb prints and writes."""
    path = samples()[-1].unpack(tmp_path / "slice")
    data = path.read_bytes()
    for name, hostile in HOSTILE.items():
        assert len(name) == len(hostile) and name in data
        data = data.replace(name, hostile)
    path.write_bytes(data)
    found = answers("-c", path)
    for question, (status, out, err) in found.items():
        assert status in (0, 1), (question, err)
        assert not re.search(r"[^\n -\x7e…]", out + err), question
    assert r"<script>\x1b[2+0x" in found["ls --pointers raw"][1]
    report = found["report"][1]
    page = Page(report)
    assert not {"u", "b"} & page.tags and len(page.scripts) == 1
    assert r"&lt;script&gt;\x1b[2+0x" in report and r"&lt;b&gt;\x1b[+deb13" in report
