# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
contrib/mend_qemu_core.py on small files made as QEMU makes its dumps; pyelftools reads
what comes out. Real dumps are mended in the lab.
"""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

MEND = Path(__file__).parents[2] / "contrib/mend_qemu_core.py"
PPC64, S390X, ARM, X86_64, RISCV = 21, 22, 40, 62, 243
TEXT = b"OSRELEASE=6.1.0-fake\nPAGESIZE=65536\nSYMBOL(swapper_pg_dir)=c0204000\n"
MEMORY_BYTES = (256 << 10, (16 << 20) + (256 << 10))
"""Of others, and of Arm."""
MEMORY_OFFSET = 0x2000
NOTE_ADDRESS = 0x12340


def qemu_dump(
    path: Path, machine: int, said: str, real: str, text: bytes = TEXT, start: int = 0
) -> None:
    """
    Write a dump.

    :param said: The byte order that the file is in.
    :param real: The byte order of the guest.
    :param start: Where its memory begins, and is said to be mapped.
    """
    size = MEMORY_BYTES[machine == ARM]
    memory = bytearray(b"\xa5" * size)
    if text:
        note = struct.pack(f"{real}III", 11, len(text), 0) + b"VMCOREINFO\0\0" + text
        memory[NOTE_ADDRESS : NOTE_ADDRESS + len(note)] = note
    registers = struct.pack(f"{said}III", 5, 16, 1) + b"CORE\0\0\0\0" + bytes(16)
    # Offset, virtual and physical address, bytes in the file and in memory.
    loads = (MEMORY_OFFSET, start, start, size, size)
    notes = (0x1000, 0, 0, len(registers), 0)
    if machine == ARM:
        ident, format_, sizes = b"\x7fELF\x01", "16sHHIIIIIHHHHHH", (52, 32)
        table = struct.pack(f"{said}16I", *(4, *notes, 0, 4), *(1, *loads, 7, 0))
    else:
        ident, format_, sizes = b"\x7fELF\x02", "16sHHIQQQIHHHHHH", (64, 56)
        entry = f"{said}IIQQQQQQ"
        table = struct.pack(entry, 4, 0, *notes, 4) + struct.pack(
            entry, 1, 7, *loads, 0
        )
    ident += (b"\x01" if said == "<" else b"\x02") + b"\x01"
    header = struct.pack(
        said + format_,
        *(ident, 4, machine, 1, 0, sizes[0], 0, 0, *sizes, 2, 0, 0, 0),
    )
    whole = (header + table).ljust(0x1000, b"\0") + registers
    path.write_bytes(whole.ljust(MEMORY_OFFSET, b"\0") + memory)


def mend(path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, MEND, path], capture_output=True, text=True)


PPC64_MAPPED = {0: 0xC000000000000000, 0x10000: 0xC000000000010000}


@pytest.mark.parametrize(
    "machine, said, real, start, mapped, notes",
    [
        (PPC64, ">", "<", 0, PPC64_MAPPED, ["VMCOREINFO"]),
        (PPC64, "<", "<", 0, PPC64_MAPPED, ["CORE", "VMCOREINFO"]),
        (S390X, ">", ">", 0, {0: 0, 0x10000: 0x10000}, ["CORE", "VMCOREINFO"]),
        # What is behind the first 16 MiB may be high memory: nowhere.
        (
            ARM,
            "<",
            "<",
            0x40000000,
            {0x40000000: 0xC0000000, 0x41000000: 0xFFFFFFFF},
            ["CORE", "VMCOREINFO"],
        ),
        (
            RISCV,
            "<",
            "<",
            0x80000000,
            {0x80000000: 0x80000000},
            ["CORE", "VMCOREINFO"],
        ),
    ],
)
def test_mended(
    tmp_path: Path,
    machine: int,
    said: str,
    real: str,
    start: int,
    mapped: Dict[int, int],
    notes: List[str],
) -> None:
    """Byte order, notes and addresses are right, and all of memory is there."""
    path = tmp_path / "core"
    qemu_dump(path, machine, said, real, start=start)
    before = path.read_bytes()
    done = mend(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "OSRELEASE=6.1.0-fake" in done.stdout
    with path.open("rb") as file:
        elf = ELFFile(file)
        assert elf.little_endian == (real == "<")
        found: List[Any] = [
            note
            for segment in elf.iter_segments()
            if isinstance(segment, NoteSegment)
            for note in segment.iter_notes()
        ]
        assert [note["n_name"] for note in found] == notes
        assert found[-1]["n_descdata"] == TEXT
        loads = list(elf.iter_segments("PT_LOAD"))
        assert {load["p_paddr"]: load["p_vaddr"] for load in loads} == mapped
        for load in loads:
            assert load["p_filesz"] == load["p_memsz"]
        memory = b"".join(load.data() for load in loads)
    assert memory == before[MEMORY_OFFSET:]
    # Nothing but the header is overwritten, and a second time not even that.
    mended = path.read_bytes()
    assert mended[64 : len(before)] == before[64:]
    again = mend(path)
    assert again.returncode == 2 and "already" in again.stderr
    assert path.read_bytes() == mended


@pytest.mark.parametrize(
    "machine, text, says",
    [
        (X86_64, TEXT, "no mending"),
        (S390X, b"", "no VMCOREINFO"),
        (ARM, b"OSRELEASE=6.1.0-fake\n", "no swapper_pg_dir"),
    ],
)
def test_cannot(tmp_path: Path, machine: int, text: bytes, says: str) -> None:
    """What cannot be mended stays as it is, and one line says why."""
    path = tmp_path / "core"
    qemu_dump(path, machine, ">", ">", text)
    before = path.read_bytes()
    done = mend(path)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert says in line
    assert path.read_bytes() == before


def test_no_vmcore(tmp_path: Path) -> None:
    """What is no ELF file is refused."""
    path = tmp_path / "text"
    path.write_text("KDUMP   " * 100)
    done = mend(path)
    assert done.returncode == 2 and "no ELF file" in done.stderr
