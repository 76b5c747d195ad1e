# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Verify
------

Kernels with any mixture of the vm_map_ram series, and what is said of each patch.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import pytest
from drgn import Architecture, Platform, PlatformFlags

from drgn_vmap.analyses.saved_text import areas_from_text
from drgn_vmap.analyses.verify import verify, verify_text
from drgn_vmap.commands import run
from drgn_vmap.model.areas import VM_FLAGS, VMAP_RAM, Problem, ProblemKind, State
from drgn_vmap.model.kcore import CheckedArea, PageClass, PageFinding
from drgn_vmap.model.series import (
    Patch,
    PatchVerdict,
    SeriesSigns,
    SeriesVerdict,
    Strength,
    Verification,
)
from drgn_vmap.render.verify import verification_json, verification_lines
from tests.expect.series import expect_patch_7, judged
from tests.fakes.blocks import FakeBlock, blocks_of
from tests.fakes.kernel import FakeArea, FakeKernel
from tests.fakes.series import Series, SeriesKernel
from tests.fakes.snapshots import BASE, PAGE, area, snapshot_of
from tests.sources import ROOT

ALLOC, IOREMAP = VM_FLAGS["VM_ALLOC"], VM_FLAGS["VM_IOREMAP"]
ALL = SeriesSigns(True, True, "vmap_ram_vread_iter", "X86_64", mixes_up_blocks=True)
NONE = SeriesSigns(False, False, None, "X86_64")
RAM_AREA = area(0, 5, va_flags=VMAP_RAM, address=1)
USER = [RAM_AREA, area(10, 4, flags=ALLOC)]
UNREAD = "there is no /proc/kcore"
#: drgn has no name for it.
SH = Platform(Architecture.UNKNOWN, PlatformFlags.IS_LITTLE_ENDIAN)
BLOCKS = blocks_of([FakeBlock(free=100, used="##..#")])


@pytest.fixture(autouse=True)
def debug_info(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of these kernels' functions, DWARF has told."""
    monkeypatch.setattr("drgn_vmap.kernel.target.has_dwarf", lambda prog: True)


def verdicts(found: Verification) -> List[str]:
    """Return the verdict of each patch, in order."""
    assert [patch.number for patch in found.patches] == [1, 2, 3, 4, 5, 6, 7]
    assert all(patch.evidence for patch in found.patches)
    return [patch.verdict.value for patch in found.patches]


def verify_json(series: Series, capsys: pytest.CaptureFixture[str]) -> Dict[str, Any]:
    """Return what the command prints of a fake kernel, and its exit status."""
    status = run("verify", SeriesKernel(series).program(), ["--json"])
    out, err = capsys.readouterr()
    assert err == ""
    document: Dict[str, Any] = json.loads(out)
    assert document["problems"] == []
    return {**document, "status": status}


@pytest.mark.parametrize(
    "series, expected, verdict",
    [
        (Series(), "yes yes yes", "fixed"),
        (Series(reader="vmap_ram_vread"), "yes yes yes", "fixed"),
        (Series(users=False), "yes yes yes", "fixed"),
        (Series(used_map=False, flags=False, reader=None), "no no no", "not-fixed"),
        (Series(used_map=False, reader=None), "no yes no", "partial"),
        (Series(used_map=False), "no yes yes", "partial"),
        (Series(used_map=False, flags=False), "no no yes", "partial"),
        (Series(flags=False), "yes no yes", "partial"),
        (Series(flags=False, reader=None), "yes no no", "partial"),
        (Series(reader=None), "yes yes no", "partial"),
        (Series(marked=False), "yes no yes", "partial"),
        (Series(bits_set=False), "no yes yes", "partial"),
    ],
    ids=str,
)
def test_mixtures(
    series: Series, expected: str, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is there in vain does not count; what a vmcore cannot show is unknown."""
    found = verify_json(series, capsys)
    assert found["verdict"] == verdict
    assert found["status"] == 1
    assert [patch["verdict"] for patch in found["patches"]] == [
        *expected.split(),
        *["unknown"] * 2,
        *["not-applicable"] * 2,
    ]
    # That its reader returns the wrong page of blocks, a vmcore cannot show.
    assert [(one["id"], one["verdict"]) for one in found["findings"]] == [
        ("vmap-block-reader", "unknown")
    ] * (verdict == "fixed")


def test_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields and words are those that programs rely on."""
    found = verify_json(Series(marked=False), capsys)
    assert (found["schema"], found["command"]) == (1, "verify")
    assert found["kernel"]["layout"] == "D" and found["kernel"]["live"] is False
    for number, patch in enumerate(found["patches"], 1):
        assert patch["number"] == number
        assert patch["strength"] in ("certain", "strong", "weak")
        assert patch["title"] and all(type(line) is str for line in patch["evidence"])
    assert [patch["strength"] for patch in found["patches"]] == [
        *["certain", "strong", "certain"],
        *["weak", "weak", "certain", "certain"],
    ]


def test_evidence_names_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """The addresses and counts of the fake, as it was laid out."""
    kernel = SeriesKernel()
    assert run("verify", kernel.program(), []) == 1
    lines = capsys.readouterr().out.splitlines()
    own, block = (f"{area.start:#x}" for area in kernel.areas[-2:])
    for words in (
        ["used_map", "128 bits"],
        ["in 1 of 1 blocks", "40 + 60 + 28"],
        ["marked 0x1", own],
        ["marked 0x3", block],
        ["vmap_ram_vread_iter()"],
        ["finding vmap-block-reader unknown"],
        ["it could not be measured", "vmcore"],
        ["verdict fixed", "see the finding"],
    ):
        assert [one for one in lines if all(word in one for word in words)], words


def test_lost_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    """Types alone answer; that memory is missing is said, and is no success."""
    kernel = SeriesKernel()
    del kernel.variables["vmap_block_queue"]
    assert run("verify", kernel.program(), []) == 1
    out, err = capsys.readouterr()
    assert "verdict fixed" in out and "unreadable" in out
    assert "vmap_blocks" in err and len(err.splitlines()) == 1


def test_unknown_block_type(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be looked at is unknown, not missing."""
    prog = SeriesKernel().program(without="vmap_block")
    assert run("verify", prog, ["--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["patches"][0]["verdict"] == "unknown"
    assert found["verdict"] == "partial"


@pytest.mark.parametrize("live", [True, False])
def test_in_the_making(live: bool) -> None:
    """An area that is neither marked nor a block does not outweigh one that is."""
    rows = [*USER, area(20, 3, address=2)]
    found = verify(snapshot_of(rows, live=live), BLOCKS, ALL, UNREAD)
    assert found.patches[1].verdict == PatchVerdict.YES
    assert "in the making" in found.patches[1].evidence[-1]


@pytest.mark.parametrize(
    "live, sure", [(True, Strength.STRONG), (False, Strength.WEAK)]
)
def test_only_unmarked(live: bool, sure: Strength) -> None:
    """With nothing else to go by, one that stays is taken for what it looks like."""
    snapshot = snapshot_of([area(20, 3, address=2)], live=live)
    patch = verify(snapshot, BLOCKS, ALL, UNREAD).patches[1]
    assert (patch.verdict, patch.strength) == (PatchVerdict.NO, sure)


def test_one_block_is_not_marked() -> None:
    """An area that divides into blocks is known by more than its flags."""
    table = BLOCKS.table
    start, end = int(table.start[0]), int(table.end[0])
    rows = [
        *USER,
        {**area(0, 1, address=int(table.area[0])), "start": start, "end": end},
    ]
    patch = verify(snapshot_of(rows), BLOCKS, ALL, UNREAD).patches[1]
    assert (patch.verdict, patch.strength) == (PatchVerdict.NO, Strength.STRONG)
    assert hex(start) in patch.evidence[-1]


def test_live() -> None:
    """Patches 4 and 5 follow from those that they came with, weakly."""
    new = verify(snapshot_of(USER, live=True), BLOCKS, ALL, UNREAD)
    assert verdicts(new)[3:5] == ["yes", "yes"]
    assert [patch.strength.value for patch in new.patches[3:5]] == ["weak", "weak"]
    old = verify(
        snapshot_of([area(0, 5)], live=True, has_va_flags=False),
        replace(BLOCKS, has_used_map=False),
        NONE,
        UNREAD,
    )
    assert verdicts(old)[:5] == ["no"] * 5
    assert old.verdict == SeriesVerdict.NOT_FIXED
    unmarked = verify(snapshot_of([area(0, 5)], live=True), BLOCKS, ALL, UNREAD)
    assert verdicts(unmarked)[3] == "unknown"


def test_btf() -> None:
    """What BTF cannot name is told by other signs, which prove less."""
    for signs, has_flags, expected in (
        (ALL, True, ["yes", "yes", "yes"]),
        (NONE, False, ["no", "no", "no"]),
    ):
        signs = replace(signs, inlined_known=False)
        snapshot = snapshot_of(USER, has_va_flags=has_flags)
        found = verify(snapshot, BLOCKS, signs, UNREAD)
        assert verdicts(found)[:3] == expected
        assert found.patches[2].strength == Strength.STRONG
        assert "BTF" in found.patches[2].evidence[1]
    signs = replace(ALL, ram_reader=None, inlined_known=False)
    found = verify(snapshot_of(USER), BLOCKS, signs, UNREAD)
    assert verdicts(found)[:3] == ["yes", "yes", "unknown"]
    assert "BTF" in found.patches[2].evidence[0]
    signs = replace(ALL, va_flags_parameter=False)
    found = verify(snapshot_of([]), BLOCKS, signs, UNREAD)
    assert found.patches[1].strength == Strength.STRONG


def test_torn() -> None:
    """Areas that changed while a live kernel was read prove nothing."""
    snapshot = snapshot_of([area(20, 3, address=2)], live=True)
    snapshot = replace(snapshot, problems=(Problem(ProblemKind.RACING, "x", "y"),))
    patch = verify(snapshot, BLOCKS, ALL, UNREAD).patches[1]
    assert patch.verdict == PatchVerdict.YES


# Reading


def checked(kind: str, counts: Mapping[PageClass, int], **more: Any) -> CheckedArea:
    """Return an area at BASE of which so many pages of each class were read."""
    nothing = counts.get(PageClass.ZERO, 0) + counts.get(PageClass.STALE, 0)
    parts: Dict[str, Any] = {
        "start": BASE,
        "end": BASE + 256 * PAGE,
        "kinds": (kind,),
        "pages": counts,
        "blank": 0,
        "lost": nothing,
        "findings": (),
        "findings_left_out": 0,
    }
    return CheckedArea(**{**parts, **more})


EQUAL_OWN = checked("vm_map_ram", {PageClass.EQUAL: 65})
ZERO_OWN = checked("vm_map_ram", {PageClass.ZERO: 65, PageClass.STALE: 2})
WRONG_BLOCK = checked(
    "vmap_block",
    {PageClass.EQUAL: 1, PageClass.WRONG: 2, PageClass.UNMAPPED_WRONG: 3},
    findings=(
        PageFinding(4, PageClass.UNMAPPED_WRONG, 3),
        PageFinding(6, PageClass.WRONG, 3),
        PageFinding(7, PageClass.WRONG, 3),
    ),
)


def read(
    *areas: CheckedArea, signs: SeriesSigns = ALL, rows: Any = USER
) -> Verification:
    """Return what is said of a live kernel of which areas were read."""
    return verify(snapshot_of(rows, live=True), BLOCKS, signs, areas)


def test_block_reader() -> None:
    """The proof names the page, the block, and whose bytes came."""
    found = read(EQUAL_OWN, WRONG_BLOCK)
    assert found.verdict == SeriesVerdict.FIXED
    [finding] = found.findings
    assert finding.id == "vmap-block-reader"
    for words in (
        "2 pages as other bytes, 1 as memory holds them",
        "3 pages that have no memory",
        f"page 6 of the block at {BASE:#x}, {BASE + 6 * PAGE:#x}, holds other bytes",
        f"the bytes of page 3, {BASE + 3 * PAGE:#x}.",
    ):
        assert words in finding.text
    assert "65 pages as memory holds them" in " ".join(found.patches[2].evidence)


def test_block_reader_by_a_page_without_memory() -> None:
    """A block with one used page is enough."""
    counts = {PageClass.EQUAL: 1, PageClass.UNMAPPED_WRONG: 1}
    only = (PageFinding(4, PageClass.UNMAPPED_WRONG, 3),)
    [finding] = read(checked("vmap_block", counts, findings=only)).findings
    assert "has no memory, and came back as the bytes of page 3" in finding.text


def test_block_reader_of_unknown_source() -> None:
    """Other bytes are wrong, wherever they are from."""
    only = (PageFinding(4, PageClass.WRONG),)
    [finding] = read(
        checked("vmap_block", {PageClass.WRONG: 1}, findings=only)
    ).findings
    assert "bytes that no page of the block holds" in finding.text


@pytest.mark.parametrize(
    "areas, words",
    [
        ((), "there is no vmap_block"),
        ((EQUAL_OWN,), "there is no vmap_block"),
        ((checked("vmap_block", {PageClass.EQUAL: 1}),), "no block has two"),
        ((checked("vmap_block", {PageClass.EQUAL: 9}, blank=8),), "no block has two"),
    ],
)
def test_not_measured(areas: Sequence[CheckedArea], words: str) -> None:
    """Where nothing could be read, the finding says so: the code is known."""
    found = read(*areas)
    [finding] = found.findings
    assert (found.verdict, finding.verdict.value) == (SeriesVerdict.FIXED, "unknown")
    assert "could not be measured" in finding.text and words in finding.text
    assert "vmap_ram_vread_iter()" in finding.text
    assert f"not known: {words}" in found.patches[2].evidence[-1]
    # Nor is there anything to say of a reader that nobody knows to be wrong.
    assert read(*areas, signs=replace(ALL, mixes_up_blocks=False)).findings == ()


def test_no_finding() -> None:
    """That blocks come back right is seen by reading, whatever the code lets expect."""
    found = read(checked("vmap_block", {PageClass.EQUAL: 9}))
    assert (found.verdict, found.findings) == (SeriesVerdict.FIXED, ())
    words = "no page of 1 blocks came back as another one"
    assert words in found.patches[2].evidence[-1]


def test_reading_has_the_last_word() -> None:
    """Names are one thing, what /proc/kcore returns is another."""
    nameless = replace(ALL, ram_reader=None)
    found = read(EQUAL_OWN, WRONG_BLOCK, signs=nameless)
    assert found.patches[2].verdict == PatchVerdict.YES
    assert found.patches[2].strength == Strength.STRONG and len(found.findings) == 1
    found = read(ZERO_OWN, signs=nameless)
    assert verdicts(found)[2:5] == ["no", "yes", "no"]
    found = read(ZERO_OWN)
    assert (found.patches[2].verdict, found.findings) == (PatchVerdict.NO, ())
    assert "67 pages as zeros or" in " ".join(found.patches[2].evidence)
    # With areas that are not marked, the reader is there and cannot know.
    found = read(ZERO_OWN, rows=[area(0, 5, address=1)])
    assert verdicts(found)[1:3] == ["no", "yes"]
    assert found.verdict == SeriesVerdict.PARTIAL


def test_blank_pages_prove_nothing() -> None:
    """Zeros where memory holds zeros are no sign of a reader."""
    blank = checked("vm_map_ram", {PageClass.EQUAL: 5}, blank=5)
    found = read(blank, signs=replace(ALL, ram_reader=None))
    assert found.patches[2].verdict == PatchVerdict.NO
    assert read(blank).patches[2].verdict == PatchVerdict.YES


def test_not_read() -> None:
    """Why it was not tried is among the evidence."""
    found = verify(snapshot_of(USER), BLOCKS, ALL, UNREAD)
    assert UNREAD in found.patches[2].evidence[-1]


# powerpc and sh


def patch_of(
    number: int, rows: Sequence[Any], callers: Mapping[int, str], architecture: str
) -> Patch:
    """Return what is said of a patch on an architecture."""
    signs = replace(ALL, architecture=architecture)
    return verify(snapshot_of(rows, callers), BLOCKS, signs, UNREAD).patches[number - 1]


@pytest.mark.parametrize("flags, verdict", [(IOREMAP, "yes"), (0, "no"), (ALLOC, "no")])
@pytest.mark.parametrize("caller", ["pcibios_map_phb_io_space", "ioremap_phb"])
def test_powerpc(flags: int, verdict: str, caller: str) -> None:
    """The area of a PCI host bridge's I/O space tells."""
    rows = [area(0, 3, flags=ALLOC, caller=2), area(9, 2, flags=flags, caller=1)]
    callers = {1: f"{caller}+0x1c/0x2c0", 2: "kernel_clone+0x1/0x2"}
    patch = patch_of(6, rows, callers, "PPC64")
    assert (patch.verdict.value, patch.strength) == (verdict, Strength.STRONG)
    assert hex(rows[1]["start"]) in patch.evidence[0] and caller in patch.evidence[0]
    assert patch_of(7, rows, callers, "PPC64").verdict == PatchVerdict.NOT_APPLICABLE


def test_powerpc_without_pci() -> None:
    """Nothing to look at is no answer."""
    rows = [area(0, 3, flags=IOREMAP, caller=2)]
    patch = patch_of(6, rows, {2: "ioremap_phb_not+0x1/0x2"}, "PPC64")
    assert patch.verdict == PatchVerdict.UNKNOWN


def test_many_areas() -> None:
    """One that lacks the flag decides, and is named among any number."""
    rows = [area(at, 1, flags=IOREMAP, caller=1) for at in range(9)]
    rows.append(area(20, 1, flags=0, caller=1))
    patch = patch_of(6, rows, {1: "ioremap_phb+0x1/0x2"}, "PPC64")
    assert patch.verdict == PatchVerdict.NO
    assert hex(rows[-1]["start"]) in patch.evidence[0]
    assert patch.evidence[-1] == "and 6 more such areas"


def sh_area(start: int, pages: int, **columns: Any) -> Any:
    """Return a row at an address of sh, where addresses have 32 bits."""
    row = area(0, pages, **columns)
    return {**row, "start": start, "end": start + pages * 4096, "addr": start}


VMALLOC = sh_area(0xC0000000, 5, flags=ALLOC, caller=2, nr_pages=4)


@pytest.mark.parametrize(
    "flags, caller, verdict, sure",
    [
        (ALLOC, "sq_remap+0x9c/0x1a0", "no", Strength.STRONG),
        (ALLOC, "init_module+0x2c/0x60 [sq_user]", "no", Strength.STRONG),
        (IOREMAP, "sq_remap+0x9c/0x1a0", "yes", Strength.STRONG),
        (IOREMAP, "init_module+0x2c/0x60 [sq_user]", "yes", Strength.WEAK),
    ],
)
@pytest.mark.parametrize("architecture", ["UNKNOWN", ""])
def test_sh(
    flags: int, caller: str, verdict: str, sure: Strength, architecture: str
) -> None:
    """The area of a store queue tells, whoever is named as its caller."""
    row = sh_area(0xE0000000, 5, flags=flags, caller=1, phys_addr=0x10000000)
    callers = {1: caller, 2: "load_module+0x1/0x2"}
    patch = patch_of(7, [VMALLOC, row], callers, architecture)
    assert (patch.verdict.value, patch.strength) == (verdict, sure)
    assert "0xe0000000-0xe0005000" in patch.evidence[0]


@pytest.mark.parametrize(
    "flags, verdict, sure", [(ALLOC, "no", "strong"), (IOREMAP, "yes", "weak")]
)
def test_sh_structs(
    flags: int, verdict: str, sure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The flags of the struct tell, of a kernel whose symbols are lost as well."""
    areas = [
        FakeArea(0xC0000000, 5, ALLOC),
        FakeArea(0xE0000000, 3, flags, phys_addr=0x10000000),
    ]
    run("verify", FakeKernel(areas, platform=SH).program(), ["--json"])
    found = json.loads(capsys.readouterr().out)["patches"][6]
    assert (found["verdict"], found["strength"]) == (verdict, sure)
    assert "0xe0000000-0xe0003000" in found["evidence"][0]


def test_no_sh() -> None:
    """ioremap areas of other 32-bit machines are no store queues."""
    arm = [
        sh_area(0xE0800000, 2, flags=IOREMAP, caller=1, phys_addr=0xFE000000),
        sh_area(0xF0800000, 2, flags=ALLOC, caller=1, nr_pages=1),
    ]
    for rows in (arm, [*arm, VMALLOC], [VMALLOC]):
        patch = patch_of(7, rows, {1: "of_iomap+0x1/0x2", 2: "x+0x1/0x2"}, "UNKNOWN")
        assert patch.verdict == PatchVerdict.UNKNOWN
    assert patch_of(7, arm, {1: "x+0x1/0x2"}, "ARM").verdict.value == "not-applicable"


# Saved text

SH_TEXT = """\
0xc0000000-0xc0005000   20480 load_module+0x1/0x2 pages=4 vmalloc
0xc0006000-0xc0008000    8192 of_iomap+0x1/0x2 phys=0xfe000000 ioremap
0xe0000000-0xe0003000   12288 init_module+0x2c/0x60 [sq_user] phys=0x10000000 {label}
"""
POWERPC_TEXT = """\
0xc008000000000000-0xc008000000020000  131072 kernel_clone+0x1/0x2 pages=1 vmalloc
0xc00a000000010000-0xc00a000000030000  131072 pcibios_map_phb_io_space+0x1/0x2{label}
"""
X86_TEXT = """\
0xffffc90000000000-0xffffc90000005000   20480 hpet_enable+0x1/0x2 phys=0x00000000fed00000 ioremap
0xffffc90000400000-0xffffc90000500000 1048576 vm_map_ram
"""


@pytest.mark.parametrize(
    "text, six, seven",
    [
        (SH_TEXT.format(label="vmalloc"), "not-applicable", "no"),
        (SH_TEXT.format(label="ioremap"), "not-applicable", "yes"),
        (POWERPC_TEXT.format(label=""), "no", "not-applicable"),
        (POWERPC_TEXT.format(label=" ioremap"), "yes", "not-applicable"),
        (X86_TEXT, "unknown", "unknown"),
    ],
)
def test_text(text: str, six: str, seven: str, tmp_path: Path) -> None:
    """Labels tell of patches 6 and 7, in a Python that has no kernel to look at."""
    path = tmp_path / "vmallocinfo"
    path.write_text(text)
    found = judged(path)
    assert [patch["verdict"] for patch in found["patches"]] == [
        *["unknown"] * 5,
        six,
        seven,
    ]
    assert found["verdict"] == "unknown" and found["kernel"] is None


@pytest.mark.parametrize(
    "sample, verdict", [("6.1-sh-plain", "no"), ("6.1-sh-series", "yes")]
)
def test_text_of_sh_kernels(sample: str, verdict: str) -> None:
    """What two real kernels printed that differ in the one patch."""
    expect_patch_7(ROOT / "docs/samples" / sample, verdict)


def test_hashed_text() -> None:
    """Hashes are no addresses: none is shown, nor taken for a store queue."""
    text = SH_TEXT.replace("0xe0000000-0xe0003000", "0xe0000000-0xe1234567")
    found = verify_text(areas_from_text("file", text.format(label="ioremap")))
    assert verdicts(found)[6] == "unknown"
    found = verify_text(areas_from_text("file", text.format(label="vmalloc")))
    assert verdicts(found)[6] == "no"
    assert "12288 bytes" in found.patches[6].evidence[0]
    assert "0xe0000000" not in found.patches[6].evidence[0]


def test_hostile_names_are_escaped() -> None:
    """No name of the target reaches a terminal or a program as it is."""
    rows = [area(9, 2, State.BUSY, flags=0, caller=1)]
    callers = {1: "ioremap_phb+0x1/0x2 [\x1b[2J\n\x00]"}
    signs = replace(ALL, architecture="PPC64")
    found = verify(snapshot_of(rows, callers), BLOCKS, signs, UNREAD)
    [line] = verification_json(found)["patches"][5]["evidence"]
    for text in (line, verification_lines(found).replace("\n", "")):
        assert text.isprintable() and "\\x1b[2J\\n\\x00" in text
