# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Vmcores as makedumpfile writes them: in each format, every verb answers as it does of the
whole one, and no page comes back as another. Of a part of one, what is there is shown, what
is not is never called damage, and a line says what is wrong with the file.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Iterator

import pytest
from drgn import Program

from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.vmalloc.contents import read_contents
from tests.expect.memory import numbers
from tests.expect.slices import expect_answers
from tests.running import answers, command

from .fixture_module import load_fixture_module
from .guest import Guest
from .kdump_header import set_names
from .makedumpfile import as_proc_vmcore, makedumpfile
from .vmcore import KDUMP_KERNEL

PAGE = 4096
MEMORY_MIB = 512
WITHOUT_DEBUG_INFO = "--no-default-symbols"

FORMATS: dict[str, tuple[str, ...]] = {
    "kdump": (),
    "kdump-zlib": ("-c",),
    "kdump-lzo": ("-l",),
    "kdump-zlib-flattened": ("-c", "-F"),
    "ELF": ("-E",),
}
"""makedumpfile's options, beside those that say what to leave out."""
LEAVE_OUT = ("-d", "31")
OF_QEMU = "kdump-of-qemu"
EXCLUDED = ("NON_PRI_CACHE", "PRI_CACHE", "USER", "FREE")
"""What is left out and not known to be zeros, as `vmap mem-usage` calls it."""
VERBS = ("ls", "blocks", "fsck", "verify", "mem-usage")


@dataclass(frozen=True)
class Whole:
    """A directory with QEMU's vmcore of a guest, and what is made of it."""

    directory: Path
    vmallocinfo: str
    iomem: str
    of_kdump: str
    """What /proc/vmallocinfo held when QEMU wrote its kdump file."""

    def ram(self) -> Iterator[tuple[int, int]]:
        """Yield where RAM begins, and its bytes, in whole pages."""
        for start, last in re.findall(
            r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", self.iomem, re.MULTILINE
        ):
            first, end = -(-int(start, 16) // PAGE), (int(last, 16) + 1) // PAGE
            yield first * PAGE, (end - first) * PAGE

    @property
    def path(self) -> Path:
        return self.directory / "whole"

    def made(self, format: str) -> Path:
        """Return what makedumpfile makes of it."""
        path = self.directory / format
        if not path.exists():
            options = [*FORMATS[format], *LEAVE_OUT]
            makedumpfile(self.directory, options, "whole", format)
        return path


@pytest.fixture(scope="module")
def whole(lab: None) -> Iterator[Whole]:
    """A vmcore of a guest with the fixture module, and with lazily freed areas."""
    with TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory) / "whole"
        with Guest.boot(KDUMP_KERNEL, memory_mib=MEMORY_MIB, debug_info=False) as guest:
            load_fixture_module(guest)
            guest.write("/proc/vmap_lab", b"lazy 3")
            vmallocinfo = guest.dump_with_vmallocinfo(path)
            kdump = guest.dump_with_vmallocinfo(path.with_name(OF_QEMU), "kdump-zlib")
            # As QEMU writes it, for all but the machine's name.
            set_names(path.with_name(OF_QEMU), b"", b"", b"", b"")
            iomem = guest.read("/proc/iomem").decode()
            vmlinux = guest.vmlinux
        prog = opened(path)
        prog.load_debug_info([vmlinux])
        as_proc_vmcore(path, prog["page_offset_base"].value_())
        yield Whole(Path(directory), vmallocinfo.decode(), iomem, kdump.decode())


@pytest.fixture(scope="module")
def expected(whole: Whole) -> Any:
    """What every verb says of the whole one."""
    found = answers("-c", whole.path, WITHOUT_DEBUG_INFO)
    assert found["ls --pointers auto"][1] == whole.vmallocinfo
    return found


def opened(path: Path) -> Program:
    prog = Program()
    prog.set_core_dump(path)
    return prog


@pytest.mark.parametrize("format", FORMATS)
def test_every_answer(whole: Whole, expected: Any, format: str) -> None:
    """Every verb says the same."""
    made = whole.made(format)
    expect_answers(answers("-c", made, WITHOUT_DEBUG_INFO), expected)


@pytest.mark.parametrize("format", FORMATS)
def test_every_page(whole: Whole, format: str) -> None:
    """Each page is as it was or said to be left out: of all those that are excluded."""
    missing = sum(size for _, size in whole.ram()) // PAGE
    missing -= pages_there(whole, whole.made(format))
    done = command("mem-usage", "-c", whole.path)
    excluded = sum(numbers(done.stdout)[name] for name in EXCLUDED)
    # In ELF files makedumpfile keeps what is no more than 255 pages in a row.
    assert excluded // 2 < missing <= excluded
    assert missing == excluded or format == "ELF"


def pages_there(whole: Whole, made: Path) -> int:
    """Count the pages that a file has, each of which is as it was."""
    prog = opened(whole.path)
    there = 0
    with Target(opened(made)) as target:
        for start, size in whole.ram():
            for piece in read_contents(target, start, size, True, lambda *_: None):
                if piece.data is None:
                    assert piece.is_failure
                else:
                    assert piece.data == prog.read(piece.start, piece.size, True)
                    there += piece.size // PAGE
    return there


def test_kdump_of_qemu(whole: Whole) -> None:
    """
    What dump-guest-memory writes, and virsh dump has it write, names no system: drgn does not
    know the architecture of that by itself.
    """
    path = whole.directory / OF_QEMU
    with pytest.raises(Exception, match="ARCH_NAME"):
        opened(path)
    done = command("ls", "-c", path, "--pointers", "auto")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == whole.of_kdump


def test_parts(whole: Whole, expected: Any) -> None:
    """A part of a dump that was split says what it is; put together, they are whole."""
    # By itself it makes each part of whole GiB, of which there is none here.
    options = ["-c", *LEAVE_OUT, "--splitblock-size", "32", "--split"]
    makedumpfile(whole.directory, options, "whole", "part-1", "part-2")
    there = 0
    for part in (whole.directory / "part-1", whole.directory / "part-2"):
        for verb in VERBS:
            expect_part(whole, verb, part, "--reassemble")
        found = pages_there(whole, part)
        assert found
        there += found
    assert there == pages_there(whole, whole.made("kdump-zlib"))
    makedumpfile(whole.directory, ["--reassemble"], "part-1", "part-2", "together")
    made = whole.directory / "together"
    expect_answers(answers("-c", made, WITHOUT_DEBUG_INFO), expected)


@pytest.mark.parametrize("percent", [30, 60, 90])
@pytest.mark.parametrize("format", FORMATS)
def test_cut_short(whole: Whole, format: str, percent: int) -> None:
    """
    What is left is shown, and that something is lost is said. Of most of a file all that it
    takes may be left.
    """
    made, cut = whole.made(format), whole.directory / "cut"
    data = made.read_bytes()
    cut.write_bytes(data[: len(data) * percent // 100])
    for verb in VERBS:
        expect_part(whole, verb, cut, "cut short")
    if format.endswith("flattened"):
        # drgn opens nothing of it.
        return
    done = command("ls", "-c", cut)
    assert done.returncode == 1 or percent == 90
    assert 0 < len(listed(done)) and listed(done) <= listed(
        command("ls", "-c", whole.path)
    )


def expect_part(whole: Whole, verb: str, part: Path, why: str) -> None:
    """
    A verb says what it says of the whole; or it shows what there is, calls nothing damaged,
    and says what is wrong with the file; or that is all it says.
    """
    done = command(verb, "-c", part)
    if done.returncode == 0:
        assert done.stdout == command(verb, "-c", whole.path).stdout
        return
    assert why in done.stderr.splitlines()[-1]
    assert not re.search("corrupt|Traceback", done.stdout + done.stderr)
    if done.returncode == 2:
        assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    else:
        assert done.returncode == 1


def listed(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the addresses of the areas that ls lists."""
    return {line.split()[0] for line in done.stdout.splitlines()}
