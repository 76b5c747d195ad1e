# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What a slice is made of, without a kernel: the file as drgn and pyelftools read it, the
recording of pages, and the moment when a file gets its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator

import pytest
from drgn import FaultError, Platform, Program, host_platform
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from drgn_vmap.commands import run
from drgn_vmap.commands.progress import Progress
from drgn_vmap.errors import TargetError
from drgn_vmap.kernel.memory.recording import Recorder
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.vmalloc.activity import activity, activity_note
from drgn_vmap.model.core import CoreHead
from drgn_vmap.render.core import core_end, core_start

PAGE = 4096
DIRECT_MAP = 0xFFFF888000000000
VMCOREINFO = (
    b"OSRELEASE=6.12.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82000000\n"
)
HEAD = CoreHead("X86_64", True, True, VMCOREINFO, PAGE, DIRECT_MAP)


def page(frame: int) -> bytes:
    """Return what a page of these tests holds."""
    return frame.to_bytes(8, "little") * (PAGE // 8)


def core(path: Path, frames: list[int], head: CoreHead = HEAD) -> Path:
    """Write a vmcore of some frames."""
    end, header = core_end(head, frames)
    pages = (page(frame)[: head.page_size] for frame in frames)
    data = core_start(head) + b"".join(pages) + end
    path.write_bytes(header + data[len(header) :])
    return path


def opened(path: Path) -> Program:
    """Open a vmcore as drgn does."""
    prog = Program()
    prog.set_core_dump(path)
    return prog


# The file


def test_drgn_reads_pages_and_no_others(tmp_path: Path) -> None:
    """By physical and by directly mapped address; between and behind there is nothing."""
    prog = opened(core(tmp_path / "core", [3, 4, 9]))
    assert prog.read(3 * PAGE, 2 * PAGE, physical=True) == page(3) + page(4)
    assert prog.read(DIRECT_MAP + 9 * PAGE + 8, 16) == page(9)[8:24]
    for address in (0, 2 * PAGE, 5 * PAGE, 10 * PAGE):
        with pytest.raises(FaultError):
            prog.read(address, 8, physical=True)
        with pytest.raises(FaultError):
            prog.read(DIRECT_MAP + address, 8)
    with pytest.raises(FaultError):
        prog.read(4 * PAGE, PAGE + 1, physical=True)


def test_vmcoreinfo(tmp_path: Path) -> None:
    """Whatever its length, it is found."""
    for length in range(4):
        text = VMCOREINFO + b"X=" + b"y" * length + b"\n"
        head = CoreHead("X86_64", True, True, text, PAGE, DIRECT_MAP)
        prog = opened(core(tmp_path / "core", [1], head))
        assert prog.read(PAGE, 8, physical=True) == page(1)[:8]
        with (tmp_path / "core").open("rb") as file:
            [notes] = ELFFile(file).iter_segments("PT_NOTE")
            assert isinstance(notes, NoteSegment)
            [note] = notes.iter_notes()
            assert note["n_name"] == "VMCOREINFO"
            assert note["n_descdata"] == text


def test_more_segments_than_a_header_can_count(tmp_path: Path) -> None:
    """Then a section header counts them."""
    small = CoreHead("X86_64", True, True, VMCOREINFO, 64, DIRECT_MAP)
    frames = list(range(1, 2 * 70_000, 2))
    prog = opened(core(tmp_path / "core", frames, small))
    for frame in (frames[0], frames[35_000], frames[-1]):
        assert prog.read(frame * 64, 64, physical=True) == page(frame)[:64]
        with pytest.raises(FaultError):
            prog.read((frame + 1) * 64, 8, physical=True)


def test_other_machines(tmp_path: Path) -> None:
    """A big-endian one is written as such; a 32-bit one is refused."""
    head = CoreHead("PPC64", True, False, VMCOREINFO, 1 << 16, 0)
    end, header = core_end(head, [])
    assert header[:6] == b"\x7fELF\x02\x02"
    (tmp_path / "core").write_bytes(header + core_start(head)[len(header) :] + end)
    platform = opened(tmp_path / "core").platform
    assert platform and platform.arch.name == "PPC64"
    with pytest.raises(TargetError, match="ARM cannot be written: "):
        core_start(CoreHead("ARM", False, True, VMCOREINFO, PAGE, 0))


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


def test_recorder_keeps_what_is_read() -> None:
    """Pages are read once, and whole; a read across a hole faults, and keeps the rest."""
    memory = Memory({1, 2, 3, 5})
    counts: list[int] = []
    recording = recorder(memory, counts.append)
    prog = recording.start()
    assert (
        prog.read(PAGE + 100, PAGE, physical=True) == (page(1) + page(2))[100:][:PAGE]
    )
    assert recording.frames() == {1, 2}
    reads = len(memory.reads)
    assert prog.read(2 * PAGE, 8, physical=True) == page(2)[:8]
    assert len(memory.reads) == reads
    with pytest.raises(FaultError):
        prog.read(3 * PAGE, 3 * PAGE, physical=True)
    assert recording.frames() == {1, 2}
    assert prog.read(5 * PAGE, PAGE, physical=True) == page(5)
    assert recording.frames() == {1, 2, 5}
    assert counts and counts[-1] == 4
    assert recording.page(5) == page(5)
    with pytest.raises(FaultError):
        recording.page(6)


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


def slice_of(*contents: bytes | BaseException) -> Callable[..., object]:
    """Return what stands in for a slice of these pages, or one that fails amidst."""

    class Stub:
        head = HEAD
        frames = list(range(1, len(contents) + 1))
        problems = ()
        vmlinux = None

        def pages(self) -> Iterator[bytes]:
            for given in contents:
                if isinstance(given, BaseException):
                    raise given
                yield given

    return lambda *args: Stub()


def test_pages_that_are_missing(
    prog: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the target lacks of --data is told, and is a hole."""
    stub = slice_of(page(1), b"", page(3))
    monkeypatch.setattr("drgn_vmap.commands.slice.Slice", stub)
    # Only now: importing the verb would keep the stand-in for ever.
    monkeypatch.setattr("drgn_vmap.kernel.target.ensure_types", lambda prog: "btf")
    output = tmp_path / "slice"
    assert run("slice", prog, ["--data", "-o", str(output)]) == 1
    assert ": 1 of their pages are not in the target" in capsys.readouterr().err
    sliced = opened(output)
    for frame in (1, 3):
        assert sliced.read(frame * PAGE, PAGE, physical=True) == page(frame)
    with pytest.raises(FaultError):
        sliced.read(2 * PAGE, 8, physical=True)


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
    monkeypatch.setattr("drgn_vmap.kernel.target.ensure_types", lambda prog: "btf")
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
