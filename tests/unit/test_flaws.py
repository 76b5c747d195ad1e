# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Files of vmcores that are not all of it, made by hand; tests/lab/test_dumps.py has those that
makedumpfile writes.
"""

import bz2
import gzip
import lzma
import struct
from pathlib import Path
from typing import Any, List, Optional, Tuple

import pytest

from drgn_vmap.commands.command_line import run_command
from drgn_vmap.kernel.memory.flaws import flaw_of
from drgn_vmap.kernel.memory.kdump_files import KdumpFile
from tests.fakes.elf_core import Segment, elf_headers

PAGE = 4096
FRAMES = [3, 4, 9, 17, 40]
PAGE_BYTES = 100
INCOMPLETE = 8
FLATTENED = b"makedumpfile".ljust(PAGE, b"\0")
END = b"\xff" * 16


def kdump(
    order: str = "<",
    version: int = 6,
    status: int = 1,
    split: Tuple[int, int] = (0, 0),
    frames: List[int] = FRAMES,
) -> bytes:
    """Return a kdump file with a page of some bytes of each frame."""
    head = b"KDUMP   " + struct.pack(f"{order}i", version)
    head = head.ljust(424, b"\0") + struct.pack(f"{order}IiiI", status, PAGE, 1, 2)
    old = split if version < 6 else (0xFFFFFFFF, 0xFFFFFFFF)
    sub = struct.pack(f"{order}QiiQQ", 0, 31, bool(any(split)), *old)
    sub = sub.ljust(80, b"\0") + struct.pack(f"{order}QQQ", *split, 64)
    bitmap = bytearray(PAGE)
    for frame in frames:
        bitmap[frame // 8] |= 1 << frame % 8
    parts = [head, sub, bytes(b"\xff" * 8), bytes(bitmap)]
    file = b"".join(part.ljust(PAGE, b"\0") for part in parts)
    inside = [one for one in frames if not any(split) or split[0] <= one < split[1]]
    data = len(file) + 24 * len(inside)
    for at in range(len(inside)):
        file += struct.pack(f"{order}QIIQ", data + at * PAGE_BYTES, PAGE_BYTES, 1, 0)
    return file + b"\xff" * (PAGE_BYTES * len(inside))


def elf(there: int) -> bytes:
    """Return an ELF core whose only segment has so many bytes, of two pages."""
    headers = elf_headers([Segment(PAGE, 0, 0, 2 * PAGE, 3 * PAGE)])
    return headers.ljust(PAGE, b"\0") + bytes(there)


WHOLE = {
    "kdump": kdump(),
    "kdump of a big-endian machine": kdump(">"),
    "kdump of an old version": kdump(version=1),
    "kdump without pages": kdump(frames=[]),
    "ELF": elf(2 * PAGE),
    "flattened": FLATTENED + bytes(2 * PAGE) + END,
    "no vmcore": b"something else",
    "nothing": b"",
}


def told(path: Path, contents: bytes) -> str:
    path.write_bytes(contents)
    return flaw_of([str(path)])


@pytest.mark.parametrize("name", WHOLE)
def test_whole(tmp_path: Path, name: str) -> None:
    """Nothing is said of what is whole, nor of what is no vmcore."""
    assert told(tmp_path / "file", WHOLE[name]) == ""


@pytest.mark.parametrize("name", ["kdump", "ELF", "flattened"])
@pytest.mark.parametrize("lost", [1, 60, 5000, 8200])
def test_cut_short(tmp_path: Path, name: str, lost: int) -> None:
    """A file that ends too early is said to, however early that is."""
    assert "cut short" in told(tmp_path / "file", WHOLE[name][:-lost])


@pytest.mark.parametrize("left", [4, 16, 63, 64, 100, 119])
def test_cut_short_in_headers(tmp_path: Path, left: int) -> None:
    """So is one that has not even its headers, as slices have many."""
    assert "cut short" in told(tmp_path / "file", WHOLE["ELF"][:left])


@pytest.mark.parametrize("packer", [gzip, lzma, bz2])
def test_packed(tmp_path: Path, packer: Any) -> None:
    """What drgn opens once it is unpacked is said to be packed."""
    assert "unpack it first" in told(tmp_path / "file", packer.compress(WHOLE["ELF"]))


def test_listing(tmp_path: Path) -> None:
    """A text that ls and others read is said to be one."""
    line = b"0xffff8000-0xffffa000    8192 vmalloc\n"
    assert "give it with --from" in told(tmp_path / "file", line)


@pytest.mark.parametrize("order", "<>")
def test_part(tmp_path: Path, order: str) -> None:
    """Part of a split dump is said to be one, and how to put it together."""
    part = kdump(order, split=(8, 24))
    assert "--reassemble" in told(tmp_path / "file", part)


@pytest.mark.parametrize("version", [2, 6])
@pytest.mark.parametrize("lost, first_lost", [(0, None), (1, 17), (101, 9)])
def test_what_a_part_has(
    tmp_path: Path, version: int, lost: int, first_lost: Optional[int]
) -> None:
    """A part has its own pages alone, though its bitmap names those of all."""
    data, path = kdump(version=version, split=(8, 24)), tmp_path / "file"
    path.write_bytes(data[: len(data) - lost])
    with path.open("rb") as file:
        part = KdumpFile(file.fileno())
        assert list(part.ranges()) == [(n * PAGE, (n + 1) * PAGE) for n in (9, 17)]
        assert part.lost_from() == first_lost


def test_no_space(tmp_path: Path) -> None:
    """What makedumpfile could not write is said."""
    assert "no space" in told(tmp_path / "file", kdump(status=1 | INCOMPLETE))


def test_cannot_be_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where drgn opens no part, one line says why."""
    path = tmp_path / "file"
    path.write_bytes(WHOLE["flattened"][:-1])
    assert run_command(["ls", "-c", str(path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"vmap ls: {path} cannot be opened: this vmcore is cut short")
