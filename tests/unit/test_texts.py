# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Verbs and texts
---------------

What the verbs take with ``--from``, and that no total hides what was left out of it.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Callable, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmap.analyses.saved_text import areas_from_text, texts_in
from drgn_vmap.commands import texts
from drgn_vmap.errors import UsageError
from tests.fakes.dialects import ERAS, PAGE, areas_of, printed
from tests.fakes.vmallocinfo import HASHED, RAW
from tests.running import without_drgn
from tests.sources import ROOT

BEFORE = ROOT / "docs/samples/before"
BROKEN = "0xffffc90000600000-0xffffc90000605000   20480 x+0x1/0x2 pages=3 vmallo"

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-16 LE": lambda data: data.decode().encode("utf-16-le"),
    "UTF-16 BE": lambda data: data.decode().encode("utf-16-be"),
    "BOM": lambda data: data.decode().encode("utf-8-sig"),
    "UTF-16 in gzip": lambda data: gzip.compress(data.decode().encode("utf-16")),
}


@pytest.mark.parametrize("how", PACKED)
def test_packed(how: str, tmp_path: Path) -> None:
    """A file of any encoding, packed or not, gives what it holds."""
    path = tmp_path / "vmallocinfo"
    path.write_bytes(PACKED[how](BEFORE.read_bytes()))
    done = without_drgn("ls", "--from", str(path))
    assert (done.returncode, done.stdout) == (0, BEFORE.read_text())


@pytest.mark.parametrize("start", [b"\x7fELF", b"KDUMP   ", b"makedumpfile"])
def test_vmcore(start: bytes, tmp_path: Path) -> None:
    """A vmcore is told where it goes, and is not read: it may be larger than memory."""
    path = tmp_path / "vmcore"
    path.write_bytes(start)
    os.truncate(path, 1 << 40)
    done = without_drgn("ls", "--from", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"vmap ls: {path} is a vmcore: give it with -c\n"


@pytest.mark.parametrize("verb", [("ls", "--from"), ("diff",)])
def test_a_packed_vmcore(tmp_path: Path, verb: Tuple[str, ...]) -> None:
    """What is no text when it is unpacked is told, so that nobody looks for one in it."""
    path = tmp_path / "vmcore.xz"
    path.write_bytes(lzma.compress(b"\x7fELF" + bytes(1000)))
    done = without_drgn(*verb, str(path))
    assert done.returncode == 2
    assert (
        done.stderr == f"vmap {verb[0]}: {path} is a packed vmcore: unpack it first\n"
    )


def test_standard_input() -> None:
    """``-`` is standard input."""
    path = str(ROOT / "scripts/vmap_ls.py")
    done = subprocess.run(
        [sys.executable, path, "--from", "-"],
        input=gzip.compress(BEFORE.read_bytes()),
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (0, BEFORE.read_bytes())


@pytest.mark.parametrize(
    "behind",
    ["word " * 20_000 + "9", "9 " * 50_000, "a" * 8_000_000 + "+0x1/0x2 vmap"],
    ids=["prose", "words", "a name"],
)
def test_a_long_line(behind: str) -> None:
    """A line takes as long as it is, not as its words are many times each other."""
    start = time.process_time()
    head = "0xffffc90000000000-0xffffc90000005000   20480"
    saved = areas_from_text("file", f"{head} {behind}\n{RAW}")
    assert time.process_time() - start < 3
    assert len(saved.lines) >= len(RAW.splitlines())


@pytest.mark.parametrize(
    "text", ["{}", "[]", '[{"start": 1}]', '\n[["0x1"]]', '["0x1", "0x2"]', "{\n"]
)
def test_json_of_others(text: str) -> None:
    """What is JSON, or the start of it, is told to be no text that ls --json prints."""
    with pytest.raises(UsageError, match="JSON|ls --json"):
        texts.saved_text(texts.Text("file", text.encode(), None))


@pytest.mark.parametrize("packed", [False, True])
def test_bundle(packed: bool, tmp_path: Path) -> None:
    """In a bundle the file is found, and the counter beside it is compared with."""
    bundle = tmp_path / "sosreport"
    (bundle / "proc").mkdir(parents=True)
    (bundle / "proc/vmallocinfo").write_bytes(BEFORE.read_bytes())
    (bundle / "proc/meminfo").write_text("MemTotal: 1 kB\nVmallocUsed:  20460 kB\n")
    (bundle / "sos_commands").mkdir()
    path = bundle
    if packed:
        path = tmp_path / "sosreport.tar.xz"
        with tarfile.open(path, "w:xz") as archive:
            archive.add(bundle, "sosreport")
    done = without_drgn("top", "--from", str(path), "-n", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("hold 5115: equal")


def test_an_empty_bundle(tmp_path: Path) -> None:
    """It is refused in one line."""
    done = without_drgn("top", "--from", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and "vmallocinfo" in done.stderr


@given(
    caller=st.text(" \t\n()[]<>+0x1/=Né\u202e", min_size=1)
    | st.sampled_from(["a+0x1/0x2 [m]vmalloc ", "a+0x1/0x2 pages=1", "<a b>"]),
    start=st.sampled_from([0, 0xFFFFC90000000000, (1 << 64) - PAGE]),
    pages=st.integers(0, (1 << 32) - 1),
)
def test_areas_of_a_damaged_kernel(caller: str, start: int, pages: int) -> None:
    """Whatever ls --json prints of a damaged kernel is taken, and no area is lost."""
    area = {"start": hex(start), "end": hex(start + PAGE), "state": "busy"}
    more = {"kinds": ["vmalloc"], "caller": caller, "pages": pages}
    areas = [{**area, **more}]
    document = {"command": "ls", "schema": 1, "kernel": None, "areas": areas}
    text = texts.Text("file", json.dumps(document).encode(), None)
    snapshot = texts.saved_text(text).snapshot
    assert snapshot.areas.start.tolist() == [start]
    assert snapshot.areas.nr_pages.tolist() == [pages]
    [named] = [name for name in snapshot.callers.values() if name]
    assert named.isprintable() and len(named) in (len(caller), len(caller) + 2)


@pytest.mark.parametrize("how", ["gzip", "xz", "bzip2"])
def test_damaged_packing(how: str, tmp_path: Path) -> None:
    """Wherever a packed file is damaged or cut short, one line says so."""
    packed, path = PACKED[how](RAW.encode()), tmp_path / "vmallocinfo"
    refused, places = 0, range(0, len(packed), 7)
    for at in places:
        for damaged in (packed[:at], packed[:at] + b"\xff" + packed[at + 1 :]):
            path.write_bytes(damaged)
            try:
                texts.read_text(str(path))
            except UsageError as e:
                refused += "give a readable file" in str(e)
    # Of what packers write some bytes mean nothing, and of what is cut to nothing
    # nobody knows that it was packed.
    assert refused > 1.5 * len(places)


@pytest.mark.parametrize("how", ["plain", "gzip", "folder", "tar", "input"])
def test_too_large(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no listing can be is not read to its end, wherever it comes from."""
    most = 1 << 20
    monkeypatch.setattr(texts, "_MAX_BYTES", most)
    folder = tmp_path / "proc"
    folder.mkdir()
    file = folder / "vmallocinfo"

    def read(more: int) -> None:
        data = RAW.encode().ljust(most + more, b"\n")
        file.write_bytes(gzip.compress(data) if how == "gzip" else data)
        if how == "tar":
            with tarfile.open(tmp_path / "tar", "w") as archive:
                archive.add(folder, "proc")
        with file.open() as source:
            monkeypatch.setattr("sys.stdin", source)
            texts.read_text(name)

    name = {"folder": str(folder), "tar": str(tmp_path / "tar"), "input": "-"}.get(
        how, str(file)
    )
    if how != "tar":  # A tar archive is larger than what is in it.
        read(0)
    with pytest.raises(UsageError, match="more than 1 MiB.* take the file vmallocinfo"):
        read(1)


GDB = """\
0xffffc90000000000-0xffffc90000005000      20480 <stack+244> vmap
0xffffc90000005000-0xffffc90000007000       8192 <acpi_map+425> phys=0x3ffe1000 ioremap
0xffffc9000000d000-0xffffc9000000f000       8192 <gen_pool+62> pages=1 vmalloc
0xffffc90000400000-0xffffc90000500000    1048576 vm_map_ram
"""
CRASH = """\
crash> kmem -v
   VMAP_AREA         VM_STRUCT                 ADDRESS RANGE                SIZE
ffff88003d4e7b00  ffff88003d4e7c40  ffffc90000000000 - ffffc90000005000    20480
ffff88003d4e7b80  ffff88003d4e7cc0  ffffc90000005000 - ffffc90000007000     8192
"""


@pytest.mark.parametrize(
    "text, sizes, callers",
    [
        (GDB, [20480, 8192, 8192, 1048576], ["<stack+244>", "<acpi_map+425>"]),
        (
            re.sub(r"<(\w+)\+\d+>", r"\1", GDB),
            [20480, 8192, 8192, 1048576],
            ["<stack>"],
        ),
        (CRASH, [20480, 8192], ["<unknown>"]),
    ],
    ids=["gdb", "drgn", "crash"],
)
def test_other_listings(text: str, sizes: list[int], callers: list[str]) -> None:
    """They are told apart, and what they have is read."""
    saved = areas_from_text("file", text)
    assert not any(one.is_failure for one in saved.snapshot.problems)
    assert "it is of" in saved.snapshot.problems[0].detail
    assert saved.snapshot.areas.vm_size.tolist() == sizes
    names = map(saved.snapshot.callers.get, saved.snapshot.areas.caller.tolist())
    assert list(names)[: len(callers)] == callers


def test_vpages_is_not_told_by_json(tmp_path: Path) -> None:
    """Where the array of pages may have been in vmalloc space, it is said to be unknown."""
    areas = [
        {
            "start": f"{start:#x}",
            "end": f"{start + size:#x}",
            "size": size,
            "state": "busy",
            "kinds": ["vmalloc"],
            "caller": "a+0x1/0x2",
            "pages": pages,
        }
        for pages in (512, 513)
        for size in [(pages + 1) * PAGE]
        for start in [0xFFFFC90000000000 + (pages << 20)]
    ]
    listed = tmp_path / "listed.json"
    listed.write_text(json.dumps({"schema": 1, "command": "ls", "areas": areas}))
    done = without_drgn("ls", "--from", str(listed))
    assert "vpages left out, if it was there (1)" in done.stderr


@pytest.mark.parametrize("form", ["json", "csv"])
def test_own_output(form: str, tmp_path: Path) -> None:
    """What ls printed of a text sums up to the same."""
    path = tmp_path / f"saved.{form}"
    path.write_text(without_drgn("ls", "--from", str(BEFORE), "--format", form).stdout)
    for by in ("caller", "kind", "node"):
        usual, again = (
            without_drgn("top", "--from", str(name), "--by", by, "--json")
            for name in (BEFORE, path)
        )
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["rows"] == json.loads(usual.stdout)["rows"]


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """A text with a line that is cut."""
    path = tmp_path / "broken"
    path.write_text(f"{RAW}{BROKEN}\n")
    return str(path)


@pytest.mark.parametrize("arguments", [["top"], ["gaps"], ["top", "--by", "node"]])
def test_what_was_left_out_stands_beside_a_total(
    arguments: list[str], broken: str
) -> None:
    """On standard output, and the exit status is 1."""
    verb, *options = arguments
    done = without_drgn(verb, "--from", broken, *options)
    assert done.returncode == 1
    assert "left out: 1 line " in done.stdout and "line 11" in done.stderr
    done = without_drgn(verb, "--from", broken, *options, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["left_out_lines"]) == (1, 1)
    assert [one["what"] for one in document["problems"]] == ["not understood"]


def test_left_out_of_other_totals(broken: str, tmp_path: Path) -> None:
    """A difference, a report and gauges say so as well."""
    raw = tmp_path / "raw"
    raw.write_text(RAW)
    done = without_drgn("diff", str(raw), broken)
    assert (done.returncode, "left out: 1 line " in done.stdout) == (1, True)
    page = tmp_path / "report.html"
    done = without_drgn("report", "--from", broken, "-o", str(page))
    assert (done.returncode, "left out: 1 line " in page.read_text()) == (1, True)
    done = without_drgn("top", "--from", broken, "--openmetrics")
    assert "\nvmap_left_out_lines 1\n" in done.stdout


def test_mended_is_no_failure(tmp_path: Path) -> None:
    """It is said once on standard error, and in JSON."""
    path = tmp_path / "quoted"
    path.write_text(re.sub("^", "> ", RAW, flags=re.M))
    done = without_drgn("top", "--from", str(path))
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    done = without_drgn("top", "--from", str(path), "--json")
    [problem] = json.loads(done.stdout)["problems"]
    assert problem["what"] == "mended" and done.stderr == ""


def test_gaps() -> None:
    """What is free is what lies between areas, within the range that was asked for."""
    areas = areas_of(ERAS[0], 32, 40, 3)
    low, high = areas[0].start, areas[-1].start + areas[-1].size
    holes = [
        (one.start + one.size, two.start)
        for one, two in zip(areas, areas[1:])
        if one.start + one.size < two.start
    ]
    path = "/dev/stdin"
    for span in (None, (low - 64 * PAGE, high + 2 * PAGE)):
        options = [] if span is None else ["--range", f"{span[0]:x}-{span[1]:x}"]
        ends = [] if span is None else [(span[0], low), (high, span[1])]
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts/vmap_gaps.py"), "--from", path]
            + [*options, "--json", "--fit", f"{40 * PAGE}"],
            input=printed(ERAS[0], 32, areas),
            capture_output=True,
            text=True,
        )
        found = json.loads(done.stdout)
        free = [end - start for start, end in [*holes, *ends]]
        assert (found["free"], found["ranges"]["free"]) == (sum(free), len(free))
        assert found["largest_gap"] == max(free)
        assert found["busy"] == sum(area.size for area in areas)
        assert found["fit"]["fits"] == (max(free) >= 41 * PAGE)
        assert done.returncode == (not found["fit"]["fits"])


def test_gaps_of_a_report(tmp_path: Path) -> None:
    """It has the same summary, where addresses are real."""
    path, report = tmp_path / "text", tmp_path / "report.html"
    areas = areas_of(ERAS[0], 32, 40, 3)
    free = [two.start - one.start - one.size for one, two in zip(areas, areas[1:])]
    path.write_text(printed(ERAS[0], 32, areas))
    done = without_drgn("report", "--from", str(path), "-o", str(report))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Largest gap: {max(free) // 1024}.0 KiB at" in report.read_text()
    path.write_text(HASHED)
    without_drgn("report", "--from", str(path), "-o", str(report))
    assert "Largest gap" not in report.read_text()


def test_a_vendor_s_label_is_a_kind(tmp_path: Path) -> None:
    """It can be asked for where a text has it."""
    path = tmp_path / "text"
    text = printed(ERAS[1], 32, areas_of(ERAS[1], 32, 60, 1))
    path.write_text(text)
    done = without_drgn("ls", "--from", str(path), "--kind", "lowmem")
    wanted = [line for line in text.splitlines() if " lowmem" in line]
    assert wanted and done.stdout.splitlines() == wanted
    done = without_drgn("ls", "--from", str(BEFORE), "--kind", "lowmem")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'lowmem' is unknown: give some of vmalloc, " in done.stderr


def test_gaps_without_addresses(tmp_path: Path) -> None:
    """Nothing tells what is between hashes."""
    path = tmp_path / "hashed"
    path.write_text(HASHED)
    done = without_drgn("gaps", "--from", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no real addresses" in done.stderr


@pytest.mark.parametrize(
    "used, said",
    [
        (20460, "areas of vmalloc() hold 5115: equal"),
        (0, "kernels between 4.4 and 5.3 do not count"),
        (31992, "equal to these, which it counted before 4.4"),
        (20464, "differs by 1 from the former, which it counts since 5.3"),
    ],
)
def test_meminfo(used: int, said: str, tmp_path: Path) -> None:
    """The kernel's counter is compared with what it counted then."""
    path = tmp_path / "meminfo"
    path.write_text(f"VmallocUsed:  {used} kB\n")
    done = without_drgn("top", "--from", str(BEFORE), "--meminfo", str(path))
    assert done.stdout.splitlines()[-1].endswith(said)


def test_top_of_a_caller() -> None:
    """Its areas alone, and the nodes that their pages are on."""
    done = without_drgn(
        "top", "--from", str(BEFORE), "--caller", "bpf_*", "--by", "node", "--json"
    )
    lines = re.findall(r" bpf_\S+ pages=(\d+).*?((?: N\d=\d+)+)", BEFORE.read_text())
    assert lines
    pages: dict[str, int] = {}
    for _, counts in lines:
        for node, count in re.findall(r"N(\d)=(\d+)", counts):
            pages[node] = pages.get(node, 0) + int(count)
    rows = {row["key"]: row for row in json.loads(done.stdout)["rows"]}
    assert {key: rows[key]["pages"] for key in pages} == pages
    assert all(rows[key]["bytes"] == pages[key] * PAGE for key in pages)


DATES = ("Mon Mar 3 10:00:00 CET 2024", "Mon Mar 3 11:00:00 CET 2024")


def snapshots(between: tuple[str, str]) -> tuple[str, str, str]:
    """Return a text with two snapshots, and each by itself."""
    old = printed(ERAS[4], 64, areas_of(ERAS[4], 64, 30, 1))
    new = "".join(old.splitlines(keepends=True)[2:-1])
    return between[0] + old + between[1] + new, old, new


@pytest.mark.parametrize(
    "between",
    [
        ("", ""),
        ("", "\n"),
        ("", "-----\n"),
        (f"{DATES[0]}\n", f"{DATES[1]}\n"),
        ("# cat /proc/vmallocinfo\n", "# cat /proc/vmallocinfo\n"),
    ],
    ids=["nothing", "empty line", "rule", "dates", "prompts"],
)
def test_snapshots(between: tuple[str, str]) -> None:
    """Each is told from the other, whatever stands between them."""
    text, old, new = snapshots(between)
    first, last = texts_in("file", text)
    assert "".join(f"{line}\n" for line in first.lines) == old
    assert "".join(f"{line}\n" for line in last.lines) == new
    assert (first.number, last.number, last.count) == (1, 2, 2)
    if between[0] in [f"{date}\n" for date in DATES]:
        assert (first.title, last.title) == DATES
    saved = areas_from_text("file", text)
    assert list(saved.lines) == list(last.lines)
    assert any("2 snapshots" in one.detail for one in saved.snapshot.problems)
    assert list(areas_from_text("file", text, 1).lines) == list(first.lines)
    with pytest.raises(UsageError, match="no snapshot 3: the last is 2"):
        areas_from_text("file", text, 3)


def test_snapshots_without_addresses() -> None:
    """What stands between them, and the same first line, tells."""
    old = printed(ERAS[6], 64, areas_of(ERAS[6], 64, 30, 1))
    both = texts_in("file", f"{DATES[0]}\n{old}{DATES[1]}\n{old}")
    assert [len(text.lines) for text in both] == [30, 30]
    assert len(texts_in("file", old.replace("\n", "\n...\n", 5))) == 1


@pytest.mark.parametrize("echo", [1, 3, 19, 30])
@pytest.mark.parametrize("note", ["", "...\n"])
def test_lines_that_a_changing_kernel_says_again(echo: int, note: str) -> None:
    """They count once, and make no snapshot of what follows."""
    text = printed(ERAS[4], 64, areas_of(ERAS[4], 64, 120, 1))
    lines = text.splitlines(keepends=True)
    torn = "".join([*lines[:60], note, *lines[60 - echo :]])
    [saved] = texts_in("file", torn)
    assert list(saved.lines) == text.splitlines()
    told = [one for one in saved.snapshot.problems if one.what == "repeated"]
    assert len(told) == echo
    first, last = texts_in("file", torn + torn)
    assert list(first.lines) == list(last.lines) == text.splitlines()


def test_over_time(tmp_path: Path) -> None:
    """What each caller holds in each of several snapshots."""
    log = tmp_path / "log"
    after = (ROOT / "docs/samples/after").read_text()
    log.write_text(f"{DATES[0]}\n{BEFORE.read_text()}{DATES[1]}\n{after}")
    done = without_drgn("diff", str(log), "--over-time", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    [caller] = document["callers"]
    assert (caller["growth"], caller["areas"]) == (60 * 2 * PAGE, [0, 60])
    assert [one["title"] for one in document["snapshots"]] == list(DATES)
    assert [one["areas"] for one in document["snapshots"]] == [176, 236]
    shown = without_drgn("diff", str(log), "--over-time").stdout
    assert "+491520" in shown and DATES[1] in shown
    both = without_drgn("diff", str(log), "--json")
    assert len(json.loads(both.stdout)["added"]) == 60


def test_one_snapshot_is_no_difference() -> None:
    """A second file is asked for."""
    done = without_drgn("diff", str(BEFORE))
    assert (done.returncode, done.stdout) == (2, "")
    assert "second file" in done.stderr


def test_two_boots(tmp_path: Path) -> None:
    """Addresses of two boots have nothing in common, so callers and sizes tell."""
    other = tmp_path / "other"
    moved = re.sub("0xffffd10", "0xffffa20", BEFORE.read_text())
    other.write_text(moved)
    done = without_drgn("diff", str(BEFORE), str(other))
    assert "two boots" in done.stderr
    assert (done.returncode, done.stdout[:13]) == (0, "no difference")


def test_two_kernels(tmp_path: Path) -> None:
    """Callers of another release are the same by their symbols."""
    other = tmp_path / "other"
    other.write_text(re.sub(r"\+0x[0-9a-f]+/", "+0x0/", BEFORE.read_text()))
    done = without_drgn("diff", str(BEFORE), str(other))
    assert "two kernels" in done.stderr
    assert (done.returncode, done.stdout[:13]) == (0, "no difference")


def test_overlaps_and_repeats() -> None:
    """No kernel lists an area twice, nor two at one address."""
    text = printed(ERAS[0], 64, areas_of(ERAS[0], 64, 30, 1))
    lines = text.splitlines(keepends=True)
    twice = areas_from_text("file", "".join([*lines[:9], lines[8], *lines[9:]]))
    [problem] = twice.snapshot.problems
    assert (problem.what, problem.where) == ("repeated", "file, line 10")
    assert len(twice.lines) == 30
    areas = areas_of(ERAS[0], 64, 30, 1)
    high = areas[20].start + areas[20].size
    over = f"0x{areas[20].start - PAGE:016x}-0x{high:016x} {areas[20].size + PAGE:7d} "
    over += "x+0x1/0x2 vmap\n"
    saved = areas_from_text("file", "".join([*lines[:20], over, *lines[20:]]))
    assert "overlapping" in {one.what for one in saved.snapshot.problems}


def test_order() -> None:
    """What a kernel prints is an order, what a person sorted by size is none."""
    text = printed(ERAS[5], 64, areas_of(ERAS[5], 64, 60, 1))
    assert areas_from_text("file", text).snapshot.problems == ()
    lines = sorted(text.splitlines(), key=lambda line: int(line.split()[1]))
    saved = areas_from_text("file", "".join(f"{line}\n" for line in lines))
    assert ["order" in one.detail for one in saved.snapshot.problems] == [True]


@pytest.mark.parametrize("package", ["numpy", "tabulate"])
def test_a_missing_package_is_named(package: str) -> None:
    """In one line, with the distribution's package beside pip's."""
    script = str(ROOT / "scripts/vmap_top.py")
    code = (
        f"import runpy, sys; sys.argv = ['x', '--from', {str(BEFORE)!r}]; "
        f"sys.modules[{package!r}] = None; "
        f"runpy.run_path({script!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert f"python3-{package}" in line and f"pip install {package}" in line
