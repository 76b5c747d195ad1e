# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a slice is made of, without a kernel: the file as drgn and pyelftools read it, the
recording of what is read, and the moment when a file gets its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import pytest
from drgn import (
    Architecture,
    FaultError,
    Platform,
    PlatformFlags,
    Program,
    host_platform,
)
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from drgn_vmap.commands import run
from drgn_vmap.commands.progress import Progress
from drgn_vmap.errors import TargetError
from drgn_vmap.kernel.memory import bulk
from drgn_vmap.kernel.memory.recording import Recorder
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.vmalloc.activity import activity, activity_note
from drgn_vmap.model.core import CoreHead
from drgn_vmap.render.core import core_headers

PAGE = 4096
DIRECT_MAP = 0xFFFF888000000000
VMCOREINFO = (
    b"OSRELEASE=6.12.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82000000\n"
)
ARM_VMCOREINFO = b"OSRELEASE=6.12.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=c0204000\n"
HEAD = CoreHead("X86_64", True, True, VMCOREINFO, PAGE, DIRECT_MAP)


def page(frame: int) -> bytes:
    """Return what a page of these tests holds."""
    return frame.to_bytes(8, "little") * (PAGE // 8)


def core(path: Path, *spans: tuple[int, int], head: CoreHead = HEAD) -> Path:
    """Write a vmcore of some spans of memory, given as address and size, in this order."""
    begins, sizes = np.array(spans, np.uint64).reshape(-1, 2).T
    contents = b"".join(memory(begin, size) for begin, size in spans)
    path.write_bytes(core_headers(head, begins, sizes) + contents)
    return path


def memory(begin: int, size: int) -> bytes:
    """Return what is in memory at an address, in these tests."""
    frames = range(begin // PAGE, -(-(begin + size) // PAGE))
    return b"".join(map(page, frames))[begin % PAGE :][:size]


def opened(path: Path) -> Program:
    """Open a vmcore as drgn does."""
    prog = Program()
    prog.set_core_dump(path)
    return prog


# The file


def test_drgn_reads_spans_and_nothing_else(tmp_path: Path) -> None:
    """By physical and by directly mapped address; a byte beside a span is a fault."""
    spans = [(9 * PAGE + 8, 16), (3 * PAGE, 2 * PAGE), (7 * PAGE - 24, 40)]
    prog = opened(core(tmp_path / "core", *spans))
    for begin, size in spans:
        for at, physical in ((begin, True), (DIRECT_MAP + begin, False)):
            assert prog.read(at, size, physical) == memory(begin, size)
            for near, count in (
                (at - 1, 1),
                (at - 1, 2),
                (at, size + 1),
                (at + size, 1),
            ):
                with pytest.raises(FaultError):
                    prog.read(near, count, physical)


def test_headers_come_first(tmp_path: Path) -> None:
    """A file that is cut short opens, and has what comes first in it."""
    spans = [(9 * PAGE, 64), (3 * PAGE, 8 * 64), (5 * PAGE, 2 * PAGE)]
    whole = core(tmp_path / "core", *spans).read_bytes()
    headers = len(whole) - sum(size for _, size in spans)
    for cut in range(headers, len(whole) + 1, 64):
        (tmp_path / "cut").write_bytes(whole[:cut])
        prog = opened(tmp_path / "cut")
        assert prog["UTS_RELEASE"].string_() == b"6.12.0"
        left = cut - headers
        for begin, size in spans:
            there = min(left, size)
            left -= there
            assert prog.read(begin, there, True) == memory(begin, there)
            if there < size:
                with pytest.raises(FaultError):
                    prog.read(begin, there + 1, True)


def test_vmcoreinfo(tmp_path: Path) -> None:
    """Whatever its length, it is found."""
    for length in range(4):
        text = VMCOREINFO + b"X=" + b"y" * length + b"\n"
        head = CoreHead("X86_64", True, True, text, PAGE, DIRECT_MAP)
        prog = opened(core(tmp_path / "core", (PAGE, PAGE), head=head))
        assert prog.read(PAGE, PAGE, physical=True) == page(1)
        with (tmp_path / "core").open("rb") as file:
            [notes] = ELFFile(file).iter_segments("PT_NOTE")
            assert isinstance(notes, NoteSegment)
            [note] = notes.iter_notes()
            assert note["n_name"] == "VMCOREINFO"
            assert note["n_descdata"] == text


def test_more_segments_than_a_header_can_count(tmp_path: Path) -> None:
    """Then a section header counts them."""
    spans = [(at * 64, 64) for at in range(1, 2 * 70_000, 2)]
    prog = opened(core(tmp_path / "core", *spans))
    for begin, size in (spans[0], spans[35_000], spans[-1]):
        assert prog.read(begin, size, physical=True) == memory(begin, size)
        with pytest.raises(FaultError):
            prog.read(begin + size, 8, physical=True)


def test_other_machines(tmp_path: Path) -> None:
    """A big-endian one is written as such; one that is not known is refused."""
    head = CoreHead("PPC64", True, False, VMCOREINFO, 1 << 16, 0)
    prog = opened(core(tmp_path / "core", (PAGE, 8), head=head))
    assert prog.platform and prog.platform.arch.name == "PPC64"
    assert prog.read(PAGE, 8) == page(1)[:8]
    x86 = CoreHead("I386", False, True, VMCOREINFO, PAGE, 0)
    with pytest.raises(TargetError, match="I386 cannot be written: "):
        core(tmp_path / "core", (PAGE, 8), head=x86)


def test_32_bits(tmp_path: Path) -> None:
    """
    What is mapped where addresses say is; of what is behind, and may be high memory, no
    address is told. What does not fit into 32 bits is refused.
    """
    ram, mapped, end = 0x40000000, 0xC0000000, 0x41000000
    head = CoreHead("ARM", False, True, ARM_VMCOREINFO, PAGE, mapped - ram, end)
    spans = [(end + PAGE, 16), (ram + 3 * PAGE, 2 * PAGE)]
    prog = opened(core(tmp_path / "core", *spans, head=head))
    assert prog.platform == Platform(Architecture.ARM, PlatformFlags.IS_LITTLE_ENDIAN)
    for begin, size in spans:
        assert prog.read(begin, size, physical=True) == memory(begin, size)
        with pytest.raises(FaultError):
            prog.read(begin, size + 1, physical=True)
    assert prog.read(mapped + 3 * PAGE, 2 * PAGE) == memory(*spans[1])
    with pytest.raises(FaultError):
        prog.read(mapped + end - ram + PAGE, 16)
    with pytest.raises(TargetError, match="above 4 GiB"):
        core(tmp_path / "core", (1 << 32, 8), head=head)


# Recording


class Memory:
    """Physical memory of a few pages, whose reads are counted."""

    def __init__(self, frames: set[int]) -> None:
        self.frames = frames
        self.reads: list[tuple[int, int]] = []
        self.change = 0
        self.program = Program(Platform(*_x86_64()))
        self.program.add_memory_segment(0, 1 << 40, self._read, physical=True)

    def _read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        first, end = address // PAGE, -(-(address + count) // PAGE)
        self.reads.append((first, end - first))
        for frame in range(first, end):
            if frame not in self.frames:
                raise FaultError("no such page", frame * PAGE)
        return b"".join(page(frame + self.change) for frame in range(first, end))


def _x86_64() -> tuple[object, object]:
    return host_platform.arch, host_platform.flags


def recorder(memory: Memory, on_read: Callable[[int], None] = print) -> Recorder:
    return Recorder(memory.program, VMCOREINFO, PAGE, on_read)


def spans(recording: Recorder) -> list[tuple[int, int]]:
    """Return what was noted, as address and size."""
    begins, sizes = recording.spans()
    return list(zip(begins.tolist(), sizes.tolist()))


def test_recorder_notes_what_is_read() -> None:
    """Each word of which a byte was read, and no other; spans that adjoin are one."""
    recording = recorder(Memory({1, 2, 3, 9000}))
    prog = recording.start()
    assert spans(recording) == []
    assert prog.read(PAGE + 100, 3, physical=True) == memory(PAGE + 100, 3)
    assert prog.read(3 * PAGE - 8, 16, physical=True) == memory(3 * PAGE - 8, 16)
    assert prog.read(9000 * PAGE + 7, 2, physical=True) == memory(9000 * PAGE + 7, 2)
    noted = [(PAGE + 96, 8), (3 * PAGE - 8, 16), (9000 * PAGE, 16)]
    assert spans(recording) == noted
    assert prog.read(PAGE + 104, 2 * PAGE, physical=True)
    assert spans(recording) == [(PAGE + 96, 2 * PAGE + 8), noted[-1]]
    assert recording.frames() == {1, 2, 3, 9000}


def test_recorder_notes_each_span_of_many_pages() -> None:
    """However many there are."""
    frames = set(range(1, 10_000))
    recording = recorder(Memory(frames))
    prog = recording.start()
    for frame in frames:
        assert prog.read(frame * PAGE + 8, 8, physical=True)
    assert spans(recording) == [(frame * PAGE + 8, 8) for frame in sorted(frames)]


def test_recorder_fetches_pages_once() -> None:
    """A read across a hole faults and is not noted, and pages around it are fetched."""
    memory = Memory({1, 2, 3, 5})
    counts: list[int] = []
    recording = recorder(memory, counts.append)
    prog = recording.start()
    two = page(1) + page(2)
    assert prog.read(PAGE + 100, PAGE, physical=True) == two[100:][:PAGE]
    reads = len(memory.reads)
    assert prog.read(2 * PAGE, 8, physical=True) == page(2)[:8]
    assert len(memory.reads) == reads
    with pytest.raises(FaultError):
        prog.read(3 * PAGE, 3 * PAGE, physical=True)
    assert recording.frames() == {1, 2}
    assert prog.read(5 * PAGE, PAGE, physical=True) == page(5)
    assert recording.frames() == {1, 2, 5}
    assert counts and counts[-1] == 4
    assert recording.contents(5 * PAGE, PAGE) == page(5)
    assert recording.note(3) and not recording.note(6)
    assert recording.frames() == {1, 2, 3, 5}
    with pytest.raises(FaultError):
        recording.contents(6 * PAGE, 8)


def test_recorder_reads_parts_of_pages(tmp_path: Path) -> None:
    """Of a slice it reads what is there, and notes the same."""
    there = [(PAGE + 8, 16), (2 * PAGE - 8, 16)]
    source = opened(core(tmp_path / "core", *there))
    recording = Recorder(source, VMCOREINFO, PAGE, print)
    prog = recording.start()
    for begin, size in there:
        assert prog.read(begin, size, physical=True) == memory(begin, size)
        with pytest.raises(FaultError):
            prog.read(begin, size + 8, physical=True)
    assert spans(recording) == there
    assert not recording.note(1)


def test_records_of_parts_of_pages(tmp_path: Path) -> None:
    """Records that a slice has are read, and those that it has in part are not there."""
    there = [(PAGE + 8, 48), (2 * PAGE - 8, 16), (5 * PAGE, PAGE)]
    prog = opened(core(tmp_path / "core", *there))
    at = np.array(
        [
            5 * PAGE + 8,
            PAGE + 8,
            PAGE + 24,
            PAGE + 48,
            2 * PAGE - 8,
            2 * PAGE,
            PAGE + 8,
        ],
        np.uint64,
    )
    found, ok = bulk.Memory(prog, PAGE, physical=True, exact=True).records(
        at, np.dtype("V16")
    )
    assert ok.tolist() == [True, True, True, False, True, False, True]
    for address, record, there_ in zip(at.tolist(), found, ok.tolist()):
        assert bytes(record) == (memory(address, 16) if there_ else bytes(16))


def test_exact_records_at_the_top() -> None:
    """A record that would wrap around is not there, the last one is."""
    prog = Program(Platform(*_x86_64()))
    for begin in (0, (1 << 64) - PAGE):
        prog.add_memory_segment(begin, PAGE, lambda at, count, *_: b"x" * count)
    at = np.array([(1 << 64) - 8, (1 << 64) - 16, 0], np.uint64)
    found, ok = bulk.Memory(prog, PAGE, exact=True).records(at, np.dtype("V16"))
    assert ok.tolist() == [False, True, True]
    assert bytes(found[0]) == bytes(16)


def test_exact_records_read_nothing_else() -> None:
    """Not even the rest of a page, in any order and however often."""
    recording = recorder(Memory({1, 2, 3}))
    exact = bulk.Memory(recording.start(), PAGE, physical=True, exact=True)
    at = [2 * PAGE - 8, PAGE + 32, PAGE + 16, PAGE + 32, 3 * PAGE + 64, 7 * PAGE]
    _, ok = exact.records(np.array(at, np.uint64), np.dtype("V16"))
    assert ok.tolist() == [True] * 5 + [False]
    noted = [(PAGE + 16, 32), (2 * PAGE - 8, 16), (3 * PAGE + 64, 16)]
    assert spans(recording) == noted


def test_recorder_refreshes() -> None:
    """What changes is read again; what the last program did not read is left out."""
    memory = Memory({1, 2, 3})
    recording = recorder(memory)
    assert recording.start().read(PAGE, 3 * PAGE, physical=True)
    memory.change = 7
    recording.refresh({1})
    prog = recording.start()
    assert recording.frames() == set()
    assert prog.read(PAGE, 2 * PAGE, physical=True) == page(1) + page(9)
    assert recording.frames() == {1, 2}


def test_activity_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice says who was at work when it was made, whatever the words."""
    words = ("CPU 0 was in vb_free()", "a line\nand \u00e9")
    text = VMCOREINFO + activity_note(words).encode()
    program = Program(Platform(*_x86_64()))
    program.set_linux_kernel_custom(text, is_live=False)
    monkeypatch.setattr("drgn_vmap.kernel.target.ensure_types", lambda prog: "btf")
    assert activity(Target(program)) == words


# The command


@pytest.fixture
def prog() -> Program:
    """A program that is a Linux kernel of no memory."""
    program = Program(Platform(*_x86_64()), vmcoreinfo=VMCOREINFO)
    program.set_linux_kernel_custom(VMCOREINFO, is_live=False)
    return program


def slice_of(*pages: bytes | BaseException) -> Callable[..., object]:
    """Return what stands in for a slice of these pages, or one that fails amidst."""

    class Stub:
        head = HEAD
        begins = np.arange(1, len(pages) + 1, dtype=np.uint64) * np.uint64(PAGE)
        sizes = np.full(len(pages), PAGE, np.uint64)
        problems = ()
        vmlinux = None

        def contents(self) -> Iterator[bytes]:
            for given in pages:
                if isinstance(given, BaseException):
                    raise given
                yield given

    return lambda *args: Stub()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_no_part_of_a_file_is_left(
    error: BaseException,
    prog: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was there before stays, and nothing comes beside it."""
    output = tmp_path / "slice"
    output.write_bytes(b"before")
    monkeypatch.setattr("drgn_vmap.commands.slice.Slice", slice_of(page(1), error))
    monkeypatch.setattr("drgn_vmap.kernel.target.Target.need_layout", lambda self: None)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            run("slice", prog, ["-o", str(output)])
    else:
        assert run("slice", prog, ["-o", str(output)]) == 2
        assert capsys.readouterr().err.startswith(f"vmap slice: {output} cannot be ")
    assert list(tmp_path.iterdir()) == [output]
    assert output.read_bytes() == b"before"


def test_progress_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a second it shows; the line is gone in the end; a file never gets it."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
        now[0] = 0.0
        with Progress("slice", "pages") as progress:
            progress.update(1)
            now[0] = 1.5
            progress.update(2000)
            progress.update(2001, 5000)
            now[0] = 2.5
            progress.update(3000, 5000)
        lines = ["vmap slice: 2,000 pages", "vmap slice: 3,000 of 5,000 pages"]
        text = "".join(f"\r{line}" for line in [*lines, " " * len(lines[1])]) + "\r"
        assert capsys.readouterr().err == (text if terminal else "")
