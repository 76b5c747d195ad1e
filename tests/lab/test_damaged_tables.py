# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Vmcores that lost pages of their tables of names and types, or have something else there,
or words that lead elsewhere, and whose VMCOREINFO does not say where these are: what is
found is right, or one line says no. A letter of a name, or an address, that is another one
nothing can tell.

What is right the kernel itself says, in /proc/kallsyms and /proc/vmallocinfo, and its debug
info. VMAP_STRESS_RUNS is how many vmcores of each kernel are tried.
"""

from __future__ import annotations

import io
import json
import re
import struct
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from random import Random
from typing import Any, Callable, Mapping

import pytest
from drgn import FaultError, Program

from drgn_vmap.commands import run
from drgn_vmap.errors import SymbolsError
from drgn_vmap.kernel.types.carried import carried_by
from drgn_vmap.kernel.types.standard import LOST_NAME
from tests.types import contents

from .guest import Guest
from .kernels import KERNELS
from .stress import RUNS
from .vmcore import Vmcore

pytestmark = pytest.mark.kernels(*KERNELS)

PAGE = 4096
TABLES = ("offsets", "num_syms", "names", "token_table", "token_index")
SMALL = ("num_syms", "token_index", "BTF header")
"""Parts whose words lead to the others."""
TYPES = (
    *("vmap_area", "vm_struct", "vmap_block", "vmap_block_queue", "list_head"),
    *("rb_node", "xarray", "page", "mm_struct", "task_struct", "inode"),
)
LISTING = ("ls", "--pointers", "auto")
VERBS = (
    *(("blocks", "--json"), ("fsck", "--json"), ("verify", "--json")),
    *(("gaps", "--json"), ("top", "--json")),
)
TOLD = re.compile(rb"SYMBOL\(kallsyms_\w+\)=\w+\n")
#: What a line ends before, if something behind it is lost and said to be.
CUT = re.compile(r" N\d+=.*$| 0x[0-9a-f]{16}.*$| [\w.]+\+0x.*$| vm_struct unreadable$")


Words = tuple[str, ...]
Expect = Callable[[int, str, str], None]


@dataclass(frozen=True)
class Carrier:
    """What a kernel carries, and what is true of it."""

    vmcore: Vmcore
    vmcoreinfo: bytes
    """Without what it says of the tables."""

    start: int
    """Where the kernel's image is."""

    image: bytes
    parts: dict[str, range]
    """Where in the image each part of the tables is."""

    names: frozenset[tuple[str, int]]
    types: dict[str, object]
    answers: dict[Words, tuple[int, str, str]]
    """What verbs print with debug info, and their exit statuses."""

    def program(self, image: bytes, lost: set[int]) -> Program:
        """
        Return a program with another image of the kernel, and no debug info.

        :param lost: Pages of the image that are not there.
        """
        whole = Program()
        whole.set_core_dump(self.vmcore.path)
        prog = Program(whole.platform, vmcoreinfo=self.vmcoreinfo)
        prog.set_linux_kernel_custom(self.vmcoreinfo, is_live=False)

        def read(address: int, count: int, offset: int, physical: bool) -> bytes:
            return bytes(whole.read(address, count, physical))

        def read_image(address: int, count: int, offset: int, physical: bool) -> bytes:
            if not lost.isdisjoint(range(offset // PAGE, -(-(offset + count) // PAGE))):
                raise FaultError("page is lost", address)
            return image[offset : offset + count]

        prog.add_memory_segment(0, (1 << 64) - 1, read, physical=True)
        prog.add_memory_segment(0, (1 << 64) - 1, read)
        prog.add_memory_segment(self.start, len(image), read_image)
        return prog

    def damaged(self, draw: Random) -> Program:
        """Return a program in which a page or a word of the tables is not what it was."""
        image, lost = bytearray(self.image), set[int]()
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            part = self.parts[draw.choice([*self.parts])]
            if draw.random() < 0.5:
                part = self.parts[draw.choice(SMALL)]
                at, size = draw.choice(part), draw.choice((1, 4, 8))
            else:
                at, size = draw.choice(part) // PAGE * PAGE, PAGE
                if draw.random() < 0.4:
                    lost.add(at // PAGE)
                    continue
            other = draw.randrange(part.start, len(image) - size)
            new = (bytes(size), draw.randbytes(size), image[other : other + size])
            image[at : at + size] = draw.choice(new)
        return self.program(bytes(image), lost)


@pytest.fixture(scope="module")
def carrier(vmcores: dict[str, Vmcore], module_guest: Guest) -> Carrier:
    """What a kernel carries."""
    vmcore = vmcores["elf"]
    prog = Program()
    prog.set_core_dump(vmcore.path)
    prog.load_debug_info([vmcore.kernel.vmlinux])
    start = prog.symbol("_stext").address & -PAGE
    btf, end = (prog.symbol(f"__{end}_BTF").address for end in ("start", "stop"))
    image = prog.read(start, -(-(end - start) // PAGE) * PAGE)
    begins = {name: prog.symbol(f"kallsyms_{name}").address for name in TABLES}
    sizes = {"num_syms": 4, "token_index": 512}
    for name, begin in begins.items():
        behind = min((at for at in begins.values() if at > begin), default=btf)
        sizes.setdefault(name, behind - begin)
    parts = {
        name: range(b - start, b - start + sizes[name]) for name, b in begins.items()
    }
    for name, part in parts_of_btf(image[btf - start :]).items():
        parts[name] = range(btf - start + part.start, btf - start + part.stop)
    lines = module_guest.read("/proc/kallsyms").decode().splitlines()
    words = [line.split() for line in lines if "\t" not in line]
    _, areas, _ = answer(prog, ("ls",))
    places = ("addr", "--json", *re.findall(r"(?m)^0x\w+", areas)[::9])
    return Carrier(
        vmcore=vmcore,
        vmcoreinfo=TOLD.sub(b"", prog["VMCOREINFO"].string_()),
        start=start,
        image=image,
        parts=parts,
        names=frozenset((name, int(address, 16)) for address, _, name in words),
        types={name: contents(prog.type(f"struct {name}")) for name in TYPES},
        answers={words: answer(prog, words) for words in (LISTING, *VERBS, places)},
    )


def parts_of_btf(data: bytes) -> dict[str, range]:
    """Return where the parts of BTF are."""
    header, types, type_bytes, strings, string_bytes = struct.unpack_from(
        "<5I", data, 4
    )
    return {
        "BTF header": range(24),
        "BTF types": range(header + types, header + types + type_bytes),
        "BTF strings": range(header + strings, header + strings + string_bytes),
    }


@pytest.mark.parametrize("number", range(RUNS))
def test_damaged(carrier: Carrier, number: int) -> None:
    """Names, types and areas are the kernel's, as far as there are any."""
    expect_right_or_no(carrier, carrier.damaged(Random(number)))


def test_undamaged(carrier: Carrier) -> None:
    """All are there if nothing is wrong."""
    prog = carrier.program(carrier.image, set())
    expect_right_or_no(carrier, prog)
    symbols = carried_by(prog).kallsyms.find(prog, None, None, False)
    assert {(one.name, one.address) for one in symbols} == carrier.names
    assert answer(prog, LISTING) == (0, carrier.vmcore.vmallocinfo.decode(), "")


def expect_right_or_no(carrier: Carrier, prog: Program) -> None:
    """See that no verb gives a wrong answer, and that no type is another one."""
    right = carrier.answers
    for words, expected in right.items():
        status, out, err = answer(prog, words)
        if status == 2:
            assert (out, err.count("\n")) == ("", 1), (words, err)
        elif (status, out) != expected[:2]:
            _EXPECT_PART[words[0]](status, out, expected[1])
    for name, whole in carrier.types.items():
        try:
            found = contents(prog.type(f"struct {name}"))
        except (LookupError, SymbolsError):
            continue
        assert is_part(found, whole), name


def expect_lines(status: int, out: str, whole: str) -> None:
    """See that the lines are true, and that it is said if some are missing."""
    lines = set(whole.splitlines())
    assert status == 1
    for line in set(out.splitlines()) - lines:
        # Where its name is lost, a caller's address stands.
        begun = CUT.sub("", line)
        assert any(one.startswith(begun) for one in lines), line


def expect_blocks(status: int, out: str, whole: str) -> None:
    """See that what is told of each block is true."""
    expected = {one["start"]: one for one in json.loads(whole)["blocks"]}
    assert status == 1
    for block in json.loads(out)["blocks"]:
        true = expected[block["start"]]
        assert {key: value for key, value in block.items() if value is not None} == {
            key: true[key] for key, value in block.items() if value is not None
        }


def expect_verdicts(name: str, key: str, unknown: str) -> Expect:
    """Return what sees that a verdict is the right one, or that there is none."""

    def expect(status: int, out: str, whole: str) -> None:
        expected = {one[key]: one["verdict"] for one in json.loads(whole)[name]}
        assert status == 1
        for one in json.loads(out)[name]:
            assert one["verdict"] in (expected[one[key]], unknown), one

    return expect


def expect_problems(status: int, out: str, whole: str) -> None:
    """See that what is missing is said."""
    assert status == 1 and json.loads(out)["problems"]


_EXPECT_PART: Mapping[str, Expect] = {
    "ls": expect_lines,
    "blocks": expect_blocks,
    "fsck": expect_verdicts("checks", "id", "skipped"),
    "verify": expect_verdicts("patches", "number", "unknown"),
    "gaps": expect_problems,
    "top": expect_problems,
    "addr": expect_problems,
}


def is_part(found: Any, expected: Any) -> bool:
    """Return whether what a type is made of is as expected, but for what is lost."""
    if not isinstance(expected, (tuple, list)) or type(found) is not type(expected):
        return bool(found == expected)
    if isinstance(found, list):
        found = [one for one in found if not is_lost(one[0])]
    if found[:1] == expected[:1] and str(found[0]).endswith("char"):
        # Whether it is signed by itself, each says by itself.
        return bool(found[1] == expected[1])
    stands_in = found[:1] == expected[:1] == ("pointer",) and found[2][0] == "void"
    if stands_in or any(map(is_lost, found)):
        return True
    return len(found) == len(expected) and all(map(is_part, found, expected))


def is_lost(name: object) -> bool:
    return isinstance(name, str) and name.startswith(LOST_NAME)


def answer(prog: Program, words: Words) -> tuple[int, str, str]:
    """Return how a verb ends and what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(words[0], prog, words[1:])
    # Where types come from is no part of it.
    return status, out.getvalue().replace('"btf"', '"dwarf"'), err.getvalue()
