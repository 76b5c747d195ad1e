# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Vmcores of other architectures, read on this one, against the guest's own file and the
fixture module's list.

Guests have one process, which starts no other, so what /proc/vmallocinfo held is what
the vmcore holds, to the byte. One of arm64 is always tried; the others take hundreds of
MB each, and are tried if these are cached or VMAP_FOREIGN=all asks for them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Iterator

import pytest
from drgn import FaultError, Program
from drgn.helpers.linux.mm import follow_phys
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import NoteSegment

from drgn_vmap import load_types, take_snapshot
from drgn_vmap._numpy import np
from drgn_vmap.kernel.target import Target
from tests.expect.areas import expect_kinds
from tests.expect.blocks import expect_blocks
from tests.expect.fsck import expect_all_ok
from tests.expect.memory import free_pages, numbers
from tests.expect.places import expect_pages
from tests.expect.slices import expect_answers
from tests.running import drgn, target_of
from tests.sources import ROOT

from . import modules
from .architecture import RISCV64
from .foreign_guest import ForeignGuest
from .foreign_kernel import HASH_MMU, ForeignKernel
from .kernels import FOREIGN_KERNELS
from .machine import need
from .support import shows
from .tagged_kernel import TaggedKernel
from .truth import Mapping, Truth
from .vmcore import Vmcore

MEND = ROOT / "contrib/mend_qemu_core.py"

#: By the flags of the areas of PCI host bridges' I/O space: there are none in 6.1.
POWERPC_VERDICT = {"6.1": "no", "6.12": "yes"}

#: With these drgn translates no addresses: their MMU is a hash table, no radix tree.
HASH = {
    name for name, kernel in FOREIGN_KERNELS.items() if kernel.arguments == HASH_MMU
}

TAGGED = [
    name for name, one in FOREIGN_KERNELS.items() if isinstance(one, TaggedKernel)
]

#: What is not in the linear mapping of 32-bit Arm, or may not be, its dumps say is here.
NOWHERE = 0xFFFFFFFF

SECTIONS = "/sys/module/vmap_lab/sections"
SHOW_COMM = "if read -r c <$t/comm; then echo ${t##*/} $c; fi"
TASKS = f"for t in /proc/[0-9]*; do {SHOW_COMM}; done"

#: A size that the kernel's allocator of modules is asked for, whole pages everywhere.
TRIED = 7 << 16


@dataclass(frozen=True)
class ForeignVmcore(Vmcore):
    """A vmcore of another architecture."""

    sections: dict[str, int]
    """Where the guest said that sections of the fixture module's code begin."""
    modules: dict[str, int]
    """Where its /proc/modules said that each module's code begins."""
    tasks: dict[int, str]
    """The comm of each of its processes, of just before and behind it."""
    lasting: set[int]
    """Those that were there both times: kernel workers come and go."""


@pytest.fixture(scope="session", params=FOREIGN_KERNELS)
def foreign_dump(request: pytest.FixtureRequest, lab: None) -> Iterator[ForeignVmcore]:
    """What QEMU writes of a guest of each kernel, with lazily freed areas."""
    kernel = FOREIGN_KERNELS[request.param]
    need(kernel)
    with TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory) / "vmcore"
        with closing(ForeignGuest(kernel)) as guest:
            # Some kernels keep what it takes to ask among their modules.
            guest.run(f"echo try_module text {TRIED} >/proc/vmap_lab")
            guest.run("echo lazy 3 >/proc/vmap_lab")
            before = tasks_of(guest)
            vmallocinfo = guest.dump_with_vmallocinfo(path)
            after = tasks_of(guest)
            guest.run(f"echo try_module text {TRIED} >/proc/vmap_lab")
            truth = guest.read("/proc/vmap_lab")
            modules = [
                line.split() for line in guest.read("/proc/modules").splitlines()
            ]
            # In one piece, which only a process of its own does.
            sections = {
                name: int(guest.run(f"busybox cat {SECTIONS}/{name}"), 16)
                for name in (".text", ".init.text")
            }
        yield ForeignVmcore(
            path,
            kernel,
            vmallocinfo,
            truth,
            sections,
            {words[0].decode(): int(words[5], 16) for words in modules},
            {**before, **after},
            before.keys() & after.keys(),
        )


def tasks_of(guest: ForeignGuest) -> dict[int, str]:
    lines = [line.split(maxsplit=1) for line in guest.run(TASKS).splitlines()]
    return {int(pid): comm.decode() for pid, comm in lines}


@pytest.fixture(scope="session")
def answer_before_mending(
    foreign_dump: ForeignVmcore,
) -> subprocess.CompletedProcess[str]:
    """What ls says of the file as QEMU wrote it."""
    return run(foreign_dump, "ls", symbols=False)


@pytest.fixture(scope="session")
def vmcore(
    foreign_dump: ForeignVmcore, answer_before_mending: subprocess.CompletedProcess[str]
) -> ForeignVmcore:
    """The vmcore of each kernel, mended in place where it has to be."""
    if not kernel_of(foreign_dump).architecture.is_dump_whole:
        foreign_dump.path.chmod(0o600)
        done = subprocess.run(
            [sys.executable, MEND, foreign_dump.path], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("mended: ")
    return foreign_dump


def kernel_of(vmcore: ForeignVmcore) -> ForeignKernel:
    assert isinstance(vmcore.kernel, ForeignKernel)
    return vmcore.kernel


def truth_of(vmcore: ForeignVmcore) -> Truth:
    return Truth.parse(vmcore.truth.decode())


def run(
    vmcore: ForeignVmcore, verb: str, *words: object, symbols: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a verb as a person would."""
    return run_script(vmcore, f"scripts/vmap_{verb}.py", *words, symbols=symbols)


def run_script(
    vmcore: ForeignVmcore, script: str, *words: object, symbols: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a script of the checkout."""
    if symbols and not kernel_of(vmcore).names_itself:
        return drgn(*target_of(vmcore), script, *words)
    return drgn("--no-default-symbols", "-c", vmcore.path, script, *words)


def is_translated(vmcore: ForeignVmcore) -> bool:
    return vmcore.kernel.name not in HASH


def answer(vmcore: ForeignVmcore, verb: str, *words: object) -> Any:
    """Return the JSON of a verb, when nothing was wrong but what drgn cannot do."""
    done = run(vmcore, verb, "--json", *words)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert done.returncode == (0 if is_translated(vmcore) else 1)
    expect_told(vmcore, [problem["detail"] for problem in found["problems"]])
    return found


def expect_told(vmcore: ForeignVmcore, lines: list[str]) -> None:
    """Expect that nothing is told, or once what drgn cannot do."""
    if is_translated(vmcore):
        assert lines == []
    else:
        [line] = lines
        assert "drgn does not read the hash table of this MMU" in line


def test_before_mending(
    foreign_dump: ForeignVmcore, answer_before_mending: subprocess.CompletedProcess[str]
) -> None:
    """
    Of a dump that has to be mended first, one line says with what. Of another, without debug
    info, all is listed; or where nothing names variables, what looks like an area in use.
    """
    done, kernel = answer_before_mending, kernel_of(foreign_dump)
    lines = done.stderr.splitlines()
    if not kernel.architecture.is_dump_whole:
        assert (done.returncode, done.stdout) == (2, "")
        [line] = lines
        assert "contrib/mend_qemu_core.py" in line
    elif kernel.names_itself:
        assert (done.returncode, lines) == (0, [])
    else:
        assert done.returncode == 1
        assert "built without names of variables" in lines[0]
        sizes, kernels = sizes_in(done.stdout), sizes_in(
            foreign_dump.vmallocinfo.decode()
        )
        assert 2 * len(sizes) > len(kernels)
        # Addresses in the kernel's file are hashed; both are in order of addresses.
        remaining = iter(kernels)
        assert all(size in remaining for size in sizes)


def sizes_in(text: str) -> list[int]:
    return [int(line.split()[1]) for line in text.splitlines()]


def test_what_is_in_the_file(vmcore: ForeignVmcore) -> None:
    """VMCOREINFO is there, the byte order is right, and segments lie in the file."""
    kernel = kernel_of(vmcore)
    with vmcore.path.open("rb") as file:
        elf = ELFFile(file)
        assert elf.little_endian == (kernel.architecture.byteorder == "little")
        texts = [
            note["n_descdata"]
            for segment in elf.iter_segments("PT_NOTE")
            if isinstance(segment, NoteSegment)
            for note in segment.iter_notes()
            if note["n_name"] == "VMCOREINFO"
        ]
        [text] = texts
        assert text.startswith(f"OSRELEASE={kernel.release}\n".encode())
        end = vmcore.path.stat().st_size
        linear = kernel.architecture.direct_map
        for segment in elf.iter_segments("PT_LOAD"):
            assert segment["p_offset"] + segment["p_filesz"] <= end
            if linear is not None and segment["p_vaddr"] != NOWHERE:
                assert segment["p_vaddr"] == linear + segment["p_paddr"]


@shows("ELF", None, but_for=HASH)
def test_ls(vmcore: ForeignVmcore) -> None:
    """It lists what the guest's own file held, byte for byte."""
    done = run(vmcore, "ls", "--pointers", "auto")
    assert done.returncode == (0 if is_translated(vmcore) else 1)
    expect_told(vmcore, done.stderr.splitlines())
    assert done.stdout == listing(vmcore)
    assert " unpurged vm_area\n" in done.stdout


def listing(vmcore: ForeignVmcore) -> str:
    """
    Return what the guest's own file held.

    Where addresses are not translated, modules cannot be read, so that callers in them
    are mere addresses: where the guest said that sections of the fixture module begin,
    and what its file says comes where in them.
    """
    text = vmcore.vmallocinfo.decode()
    if is_translated(vmcore):
        return text
    with modules.build(vmcore.kernel).open("rb") as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        starts = {
            one.name: vmcore.sections[section] + one["st_value"]
            for one in symbols.iter_symbols()
            if isinstance(one["st_shndx"], int)
            for section in [elf.get_section(one["st_shndx"]).name]
            if section in vmcore.sections
        }

    def address(name: re.Match[str]) -> str:
        return hex(starts[name[1]] + int(name[2], 16))

    listed, count = re.subn(
        r"(\w+)\+(0x[0-9a-f]+)/0x[0-9a-f]+ \[vmap_lab\]", address, text
    )
    assert count > 10
    return listed


def test_kinds(vmcore: ForeignVmcore) -> None:
    """Each of the module's areas is of the kind that it was made as."""
    expect_kinds(answer(vmcore, "ls")["areas"], truth_of(vmcore))


def test_blocks(vmcore: ForeignVmcore) -> None:
    """Each page of each block is what the module did to it."""
    found = answer(vmcore, "blocks")
    version = vmcore.kernel.name.split("-")[0]
    expect_blocks(found, truth_of(vmcore), version, is_translated(vmcore))


def test_translation(vmcore: ForeignVmcore) -> None:
    """Each page of each of the module's mappings leads to the frame it got."""
    truth = truth_of(vmcore)
    pages = [
        hex(mapping.address + index * truth.page_size)
        for mapping in truth.mappings
        for index in range(mapping.pages)
    ]
    live = 0
    for at in range(0, len(pages), ARGUMENTS):
        some = pages[at : at + ARGUMENTS]
        places = answer(vmcore, "addr", *some)["addresses"]
        assert [place["address"] for place in places] == some
        if is_translated(vmcore):
            live += expect_pages(places, truth)
        else:
            live += expect_what_vm_structs_say(places, truth)
    assert live == sum(m.pages for m in truth.mappings if m.live)


ARGUMENTS = 2000


def expect_what_vm_structs_say(places: list[Any], truth: Truth) -> int:
    """Compare the pages that no page table tells of; return how many are live."""
    pages = {
        hex(mapping.address + index * truth.page_size): (mapping, index)
        for mapping in truth.mappings
        for index in range(mapping.pages)
        if mapping.live
    }
    live = 0
    for place in places:
        if place["address"] not in pages:
            continue
        live += 1
        mapping, index = pages[place["address"]]
        assert place["area"]["state"] == "busy"
        if is_told(mapping, truth):
            assert place["phys"] == hex(mapping.pfns[index] * truth.page_size)
            assert place["phys_by"] == "vm_struct"
        else:
            assert "phys" not in place
            assert place["missing"] == {"phys": "unreadable"}
    return live


def is_told(mapping: Mapping, truth: Truth) -> bool:
    """Whether a vm_struct tells where the pages are, and in the linear mapping."""
    # Arrays that are larger than a page vmalloc() puts into vmalloc space.
    if mapping.kind.startswith("vmalloc") and mapping.pages * 8 > truth.page_size:
        return False
    return mapping.kind in TOLD_BY_VM_STRUCT


def test_frames(vmcore: ForeignVmcore) -> None:
    """A byte of each mapping's last page frame is found where the mapping has it."""
    truth = truth_of(vmcore)
    wanted = [
        (
            f"phys:{mapping.pfns[-1] * truth.page_size + 8:x}",
            hex(mapping.address + (mapping.pages - 1) * truth.page_size + 8),
        )
        for mapping in truth.mappings
        if mapping.live and (is_translated(vmcore) or is_told(mapping, truth))
    ]
    places = answer(vmcore, "addr", *(asked for asked, _ in wanted))["addresses"]
    assert len(wanted) > 10
    assert set(wanted) <= {(place["asked"], place.get("address")) for place in places}


def opened(vmcore: ForeignVmcore) -> Program:
    prog = Program()
    prog.set_core_dump(vmcore.path)
    if not kernel_of(vmcore).names_itself:
        prog.load_debug_info([vmcore.kernel.vmlinux])
    load_types(prog)
    return prog


def test_page_table(vmcore: ForeignVmcore) -> None:
    """Each page of each area is where drgn's own walk of the page table leads."""
    prog = opened(vmcore)
    snapshot = take_snapshot(prog)
    page_size = snapshot.kernel.page_size
    ranges = zip(snapshot.areas.start.tolist(), snapshot.areas.end.tolist())
    pages = np.array(
        [
            address
            for start, end in ranges
            for address in range(start, min(end, start + LOOKED_AT), page_size)
        ],
        np.uint64,
    )
    found = Target(prog).page_table.translate(pages)
    if not is_translated(vmcore):
        assert not found.known.any()
        return
    assert found.known.all() and found.present.sum() > 500
    if vmcore.kernel.architecture == RISCV64:
        return  # drgn knows no page table of it.
    mm = prog["init_mm"].address_of_()
    for page, phys, present in zip(
        pages.tolist(), found.phys.tolist(), found.present.tolist()
    ):
        try:
            walked = follow_phys(mm, page).value_()
        except FaultError:
            walked = None
        assert walked == (phys if present else None), hex(page)


LOOKED_AT = 64 << 20


def test_fsck(vmcore: ForeignVmcore) -> None:
    """Nothing is wrong; page arrays and the page table are held against each other."""
    checks = answer(vmcore, "fsck")["checks"]
    impossible = () if is_translated(vmcore) else ("vm-pages", "block-mapped")
    expect_all_ok(checks, vmcore.kernel.name.split("-")[0], impossible)
    if is_translated(vmcore):
        [looked] = [one["checked"] for one in checks if one["id"] == "vm-pages"]
        owned = [m for m in truth_of(vmcore).mappings if m.kind in WITH_PAGE_ARRAY]
        assert looked >= sum(m.pages for m in owned)


WITH_PAGE_ARRAY = (
    "vmalloc",
    "vmalloc_user",
    "vmalloc_node",
    "vmalloc_huge",
    "vmap_put",
)
TOLD_BY_VM_STRUCT = (*WITH_PAGE_ARRAY, "ioremap", "memremap")


def test_sums(vmcore: ForeignVmcore) -> None:
    """top and gaps have as many areas and bytes as the guest's own file."""
    lines = [line.split() for line in vmcore.vmallocinfo.decode().splitlines()]
    lazy = [int(words[1]) for words in lines if words[2:3] == ["unpurged"]]
    busy = [int(words[1]) for words in lines if words[2:3] != ["unpurged"]]
    rows = answer(vmcore, "top", "-n", 0)["rows"]
    assert sum(row["areas"] for row in rows) == len(busy)
    assert sum(row["bytes"] for row in rows) == sum(busy)
    gaps = answer(vmcore, "gaps")
    assert gaps["busy"] + gaps["outside"] == sum(busy)
    assert gaps["lazy"] == sum(lazy)


def test_verify(vmcore: ForeignVmcore) -> None:
    """Patches 1 to 3 by the version that brought them, 6 by the PCI I/O area's flags."""
    done = run(vmcore, "verify", "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    version = vmcore.kernel.name.split("-")[0]
    old = version == "6.1"
    powerpc = "not-applicable"
    if kernel_of(vmcore).architecture.linux == "powerpc":
        powerpc = POWERPC_VERDICT[version]
    verdicts = [patch["verdict"] for patch in found["patches"]]
    assert verdicts[:3] == (["no"] * 3 if old else ["yes"] * 3)
    assert verdicts[5:] == [powerpc, "not-applicable"]
    # What the reader of blocks does wrong is a finding on every vmcore that has it.
    findings = [(one["id"], one["verdict"]) for one in found["findings"]]
    assert findings == ([] if old else [("vmap-block-reader", "unknown")])
    assert done.returncode == 1


def test_report(vmcore: ForeignVmcore, tmp_path: Path) -> None:
    """The report is written, and has the areas."""
    done = run(vmcore, "report", "-o", tmp_path / "report.html")
    assert done.returncode == (0 if is_translated(vmcore) else 1)
    assert done.stderr == ""
    written = (tmp_path / "report.html").read_text()
    assert ("map_vmalloc" if is_translated(vmcore) else "load_module") in written
    expect_told(vmcore, re.findall("drgn does not read .*", written))


@shows("slice", None, but_for=HASH)
def test_slice(vmcore: ForeignVmcore, tmp_path: Path) -> None:
    """A slice says the same of everything, and tells if it needs a vmlinux to."""
    done = run(vmcore, "slice", "-o", tmp_path / "slice")
    assert (done.returncode, done.stdout) == (0 if is_translated(vmcore) else 1, "")
    lines = done.stderr.splitlines()
    if not kernel_of(vmcore).names_itself:
        assert lines.pop(0).endswith(f" with drgn -s {vmcore.kernel.vmlinux}")
    expect_told(vmcore, lines)
    found = answers(replace(vmcore, path=tmp_path / "slice"))
    assert found["ls --pointers auto"][1] == listing(vmcore)
    expect_answers(found, answers(vmcore))


def answers(vmcore: ForeignVmcore) -> Any:
    """Return what every verb says."""
    done = run_script(vmcore, "tests/samples/answers.py")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_module_space(vmcore: ForeignVmcore) -> None:
    """Modules lie in it, and the kernel's allocator took the place that is told."""
    gaps = answer(vmcore, "gaps", "--space", "module", "--fit", TRIED)
    low, high = int(gaps["start"], 16), int(gaps["end"], 16)
    assert len(vmcore.modules) > 0
    assert all(low <= start < high for start in vmcore.modules.values())
    fit, tried = gaps["fit"], truth_of(vmcore).attempt
    assert tried is not None and fit["fits"] and tried.fits
    # On some CPUs it takes what their node has pooled.
    assert tried.address in {
        int(at, 16) for at in (fit["where"], *fit["pools"].values())
    }


def test_owners(vmcore: ForeignVmcore) -> None:
    """Stacks are those of the guest's tasks, and areas of modules are those it has."""
    areas = answer(vmcore, "ls", "--owners")["areas"]
    owners = [
        (one, area)
        for area in areas
        for one in area.get("owners", [area["owner"]] if "owner" in area else [])
    ]
    told = {one["id"]: one["name"] for one, _ in owners if one["kind"] == "task"}
    # Of kernel workers /proc tells more than the comm.
    assert all(vmcore.tasks[pid].startswith(told[pid].split("/")[0]) for pid in told)
    stacks = re.findall(
        rb"(?m)^.* (?:dup_task_struct|copy_process|kernel_clone)\+", vmcore.vmallocinfo
    )
    assert bool(told) == bool(stacks)
    assert not told or vmcore.lasting <= told.keys() <= vmcore.tasks.keys()
    arrays = [one["name"] for one, _ in owners if one["kind"] == "page-array"]
    assert len(arrays) == vmcore.vmallocinfo.count(b" vpages ")
    modules = {one["name"] for one, _ in owners if one["kind"] == "module"}
    assert modules == (set(vmcore.modules) if is_translated(vmcore) else set())


def test_tags(vmcore: ForeignVmcore) -> None:
    """On arm64, addresses have tags if the kernel does, and mean the area that has them."""
    if vmcore.kernel.architecture.linux != "arm64":
        return
    starts = [line.partition("-")[0] for line in run(vmcore, "ls").stdout.splitlines()]
    tagged = [start for start in starts if start[:4] != "0xff"]
    if not isinstance(vmcore.kernel, TaggedKernel):
        assert tagged == []
        return
    assert len(tagged) > 20 and len({start[:4] for start in tagged}) > 5
    for place, start in zip(answer(vmcore, "addr", *tagged)["addresses"], tagged):
        assert place["area"]["start"] == place["address"] == f"0xff{start[4:]}"


@pytest.mark.parametrize("foreign_dump", TAGGED, indirect=True)
@shows("ELF", "DWARF")
def test_debug_info(vmcore: ForeignVmcore) -> None:
    """With debug information, what is built here is read as by what it carries itself."""
    done = drgn(*target_of(vmcore), "scripts/vmap_ls.py", "--pointers", "auto")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == listing(vmcore)
    done = drgn(*target_of(vmcore), "scripts/vmap_fsck.py", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["checks"] == answer(vmcore, "fsck")["checks"]


def test_mem_usage(vmcore: ForeignVmcore) -> None:
    """`vmap mem-usage` finds the free pages that the allocator counts."""
    done = run_script(vmcore, "scripts/vmap_mem_usage.py")
    if not is_translated(vmcore):
        # Struct pages lie where drgn does not translate either.
        assert done.returncode == 1 and "struct pages" in done.stderr
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers(done.stdout)["FREE"] == free_pages(opened(vmcore))
