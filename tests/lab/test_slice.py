# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap slice`: a slice answers as its vmcore does, by itself, and holds nothing that an area
maps, nothing of any process and nothing of what lies beside vmalloc's own objects.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from drgn import Program

from tests.expect.places import PAGE
from tests.expect.slices import expect_answers, fills, frames
from tests.running import answers, drgn, target_of

from .guest import VMALLOCINFO, Guest
from .marks import slow
from .stress import stress
from .support import shows
from .truth import Truth, page_bytes
from .vmcore import CANARY, Vmcore, count_canaries

STRESSED = "5.10"
ALONE = ("--no-default-symbols", "-c")
LARGEST = 32 << 20


def slice_of(target: list[object], output: Path, *options: str) -> Path:
    """Cut a slice and see that nobody complains."""
    done = drgn(*target, "scripts/vmap_slice.py", "-o", output, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return output


@shows("slice", "BTF")
def test_answers_as_its_vmcore(vmcore: Vmcore, tmp_path: Path) -> None:
    """Every verb says the same of both, to the byte, and the slice needs no help."""
    sliced = slice_of(target_of(vmcore), tmp_path / "slice")
    assert sliced.stat().st_size < LARGEST
    found = answers(*ALONE, sliced)
    assert found["ls --pointers auto"][1] == vmcore.vmallocinfo.decode()
    expect_answers(found, answers(*ALONE, vmcore.path))
    # Answers need no more than what is there, and no less.
    again = slice_of([*ALONE, sliced], tmp_path / "again")
    assert again.read_bytes() == sliced.read_bytes()


def test_cut_short(vmcores: dict[str, Vmcore], tmp_path: Path) -> None:
    """Half of it opens, and with debug info for names and types it lists every area."""
    vmcore = vmcores["kdump-zlib"]
    sliced = slice_of(target_of(vmcore), tmp_path / "slice")
    with sliced.open("r+b") as file:
        file.truncate(sliced.stat().st_size // 2)
    opened = Program()
    opened.set_core_dump(sliced)
    release = opened["UTS_RELEASE"].string_().decode()
    assert release == vmcore.kernel.release
    listed = drgn(
        *(*ALONE, sliced, "-s", vmcore.kernel.vmlinux),
        *("scripts/vmap_ls.py", "--pointers", "auto"),
    )
    assert listed.stdout.encode() == vmcore.vmallocinfo, listed.stderr


def test_no_data(vmcores: dict[str, Vmcore], tmp_path: Path) -> None:
    """Neither what areas map nor what processes have is in it; with --data the former."""
    vmcore = vmcores["elf"]
    with vmcore.path.open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            assert whole.find(CANARY) >= 0
    mappings = [
        mapping
        for mapping in Truth.parse(vmcore.truth.decode()).mappings
        if mapping.live and mapping.fill is not None
    ]
    mapped = {frame for mapping in mappings for frame in mapping.pfns}
    assert len(mapped) > 1000
    sliced = slice_of(target_of(vmcore), tmp_path / "slice")
    data = sliced.read_bytes()
    assert count_canaries(data) == 0
    assert fills(data) == []
    assert not mapped & frames(sliced)

    sliced = slice_of(target_of(vmcore), tmp_path / "with-data", "--data")
    data = sliced.read_bytes()
    assert count_canaries(data) == 0
    assert len(fills(data)) > 1000
    assert mapped <= frames(sliced)
    for mapping in mappings:
        assert mapping.fill is not None
        assert page_bytes(mapping.fill, mapping.pages - 1, PAGE) in data


@slow
def test_no_neighbours(module_guest: Guest, tmp_path: Path) -> None:
    """Nothing of what lies beside vmalloc's own objects is in it, in the same pages too."""
    guest = module_guest
    placed = guest.run(
        f"python3 tests/lab/inside/canaries.py {CANARY.decode()}",
        env={"CANARY": CANARY.decode()},
    )
    assert placed.status == 0, placed.stderr.decode()
    guest.write("/proc/vmap_lab", b"leak 300")
    vmcore = tmp_path / "vmcore"
    try:
        guest.dump(vmcore)
        target: list[object] = ["--qemu", guest.qmp_socket, "-s", guest.vmlinux]
        with guest.stopped():
            outside = slice_of(target, tmp_path / "outside")
    finally:
        guest.write("/proc/vmap_lab", b"leak 0")
        assert guest.run(f"kill {int(placed.stdout)}").status == 0
    sliced = slice_of(["-c", vmcore, "-s", guest.vmlinux], tmp_path / "slice")
    memory = Program()
    memory.set_core_dump(vmcore)
    pages = [memory.read(at * PAGE, PAGE, True) for at in sorted(frames(sliced))]
    # It is there, right beside what the slice has.
    assert any(map(count_canaries, pages))
    for path in (sliced, outside):
        assert count_canaries(path.read_bytes()) == 0
        listed = drgn("-c", path, "scripts/vmap_ls.py")
        assert (listed.returncode, listed.stderr) == (0, "")
        assert listed.stdout.count("leak") >= 300


def test_live(module_guest: Guest, tmp_path: Path) -> None:
    """Each line that stood in the kernel's file all the while is in the slice."""
    command = "drgn -q -c /proc/kcore scripts/vmap_slice.py -o /tmp/slice"
    done = module_guest.run(command, timeout=300, sample=VMALLOCINFO)
    assert (done.status, done.stdout, done.stderr) == (0, b"", b"")
    sliced = tmp_path / "slice"
    module_guest.get("/tmp/slice", sliced)
    samples = [sample.decode().splitlines() for sample in done.samples]
    always = set(samples[0]).intersection(*samples)
    ever = {line for sample in samples for line in sample}
    printed = drgn("-c", sliced, "scripts/vmap_ls.py", "--pointers", "auto")
    assert (printed.returncode, printed.stderr) == (0, "")
    lines = printed.stdout.splitlines()
    assert [line for line in lines if line not in ever] == []
    stable = [line for line in samples[0] if line in always]
    assert len(stable) > 100
    assert [line for line in lines if line in always] == stable
    checked = drgn("-c", sliced, "scripts/vmap_fsck.py")
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout


# It takes minutes under emulation.
@slow
@pytest.mark.kernels(STRESSED)
def test_while_areas_come_and_go(module_guest: Guest) -> None:
    """Under stress there is a slice, which says if it is not of one moment."""
    command = "drgn -q -c /proc/kcore scripts/vmap_slice.py -o /tmp/stressed"
    with stress(module_guest):
        done = module_guest.run(command, timeout=600)
    assert (done.status, done.stdout) == (0, b"")
    for line in done.stderr.decode().splitlines():
        assert line.startswith("vmap slice: racing: ") or "more, see" in line
    listed = module_guest.run("drgn -q -c /tmp/stressed scripts/vmap_ls.py")
    assert len(listed.stdout.splitlines()) > 100


def test_from_outside_over_qmp(module_guest: Guest, tmp_path: Path) -> None:
    """drgn --qemu slices a running guest."""
    target: list[object] = ["--qemu", module_guest.qmp_socket]
    sliced = slice_of([*target, "-s", module_guest.vmlinux], tmp_path / "slice")
    printed = drgn("-c", sliced, "scripts/vmap_ls.py", "--pointers", "auto")
    assert printed.stdout.encode() == module_guest.read(VMALLOCINFO)


def test_nowhere_to_write(vmcores: dict[str, Vmcore], tmp_path: Path) -> None:
    """Where no file can be, or one that must stay is, there is one line and no file."""
    vmcore = vmcores["kdump-zlib"]
    directory = tmp_path / "directory"
    directory.mkdir()
    for output in (directory, tmp_path / "not/there", vmcore.path, Path("/dev/null")):
        done = drgn(*target_of(vmcore), "scripts/vmap_slice.py", "-o", output)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"vmap slice: {output} ")
        assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [directory]
    assert Path("/dev/null").is_char_device()
