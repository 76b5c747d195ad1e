# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Without debug info: what BTF says against what the compiler's DWARF says of the same
kernel, and each verb against itself with debug info.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Collection, Sequence

import pytest
from drgn import Architecture, Object, Platform, Program, TypeKind
from elftools.elf.elffile import ELFFile

from drgn_vmap import load_module_types, load_types
from drgn_vmap.commands import run
from drgn_vmap.errors import SymbolsError
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.types import variables
from drgn_vmap.kernel.types.btf import BtfTypes
from drgn_vmap.kernel.types.btf_data import BtfData, BtfKind
from drgn_vmap.kernel.types.carried import searched_tables
from drgn_vmap.kernel.types.module_types import module_btf
from drgn_vmap.kernel.types.vmcoreinfo import Vmcoreinfo
from tests.expect.listing import expect_listing_in
from tests.running import LIVE, drgn
from tests.sources import ROOT
from tests.types import contents, outline, resolved

from . import modules
from .built_kernel import BuiltKernel
from .fixture_module import load_fixture_module
from .guest import Guest
from .kernels import KERNELS, UNUSUAL_KERNELS
from .support import shows
from .vmcore import VMCORE_FORMATS, Vmcore

COMPARED = "6.12"
KPTR_RESTRICT = "/proc/sys/kernel/kptr_restrict"
WITHOUT_MODULES = {
    "5.10",
    *(name for name, one in UNUSUAL_KERNELS.items() if isinstance(one, BuiltKernel)),
}
"""Kernels whose modules have no BTF."""
KINDS = {
    "struct": (BtfKind.STRUCT,),
    "union": (BtfKind.UNION,),
    "enum": (BtfKind.ENUM, BtfKind.ENUM64),
}
VERBS = (
    ("ls", "--pointers", "auto"),
    ("ls", "--all", "--json"),
    ("blocks", "--json"),
    ("fsck", "--json"),
    ("top", "--json"),
    ("gaps", "--fit", "1M", "--json"),
    ("verify", "--json"),
)
FUNCTIONS = (
    "purge_fragmented_block",
    "vm_area_free_pages",
    "vm_area_map_pages",
    "vmalloc_info_show",
    "vmap_ram_vread",
    "vmap_ram_vread_iter",
    "vread",
    "vread_iter",
)
WHERE_ALONE = {"vmap_block_tree"}
"""Variables whose type differs by kernel, and whose address is all that is needed."""
INLINED = {
    name: {"purge_fragmented_block"} for name in ("6.1-v6.5", "6.1-gki66", "6.1-rhel9")
}
"""By kernel, those that nothing but debug info tells of."""
PARAMETERS = (
    ("alloc_vmap_area", "va_flags"),
    ("alloc_vmap_area", "vm"),
    ("show_numa_info", "counters"),
)


def named(data: BtfData, kind: BtfKind) -> dict[str, list[int]]:
    """Return the numbers of the types of a kind that have a name, by name."""
    found: dict[str, list[int]] = {}
    for id in range(data.first_id, data.end_id):
        if data.kind(id) == kind:
            found.setdefault(data.record(id).name, []).append(id)
    found.pop("", None)
    return found


def test_types_of_the_compiler(lab: None) -> None:
    """
    Each struct, union and enumeration is in BTF what it is in DWARF.

    Several may have the same name, as files have types of their own; drgn finds one
    of them by name, and that one has to be among those in BTF. What is defined within
    a function it does not find.
    """
    vmlinux = KERNELS[COMPARED].vmlinux
    dwarf, bare = (Program(Platform(Architecture.X86_64)) for _ in range(2))
    dwarf.extra_module(str(vmlinux), create=True).try_file(str(vmlinux))
    with vmlinux.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".BTF")
        assert section is not None
        data = BtfData(section.data())
    types = BtfTypes(bare, data)
    compared, inside_functions, differing = 0, [], []
    for word, kinds in KINDS.items():
        for kind in kinds:
            names = named(data, kind)
            for name in sorted(names):
                try:
                    expected = contents(dwarf.type(f"{word} {name}"))
                except LookupError:
                    inside_functions.append(name)
                    continue
                found = [contents(types.type(id)) for id in names[name]]
                compared += 1
                if expected not in found:
                    differing.append((word, name, found, expected))
    assert differing == []
    assert compared > 9_000
    assert len(inside_functions) < compared / 50


def programs(vmcore: Vmcore) -> tuple[Program, Program]:
    """Open a vmcore with its kernel's debug info, and without."""
    dwarf, btf = Program(), Program()
    for prog in (dwarf, btf):
        prog.set_core_dump(vmcore.path)
    dwarf.load_debug_info([vmcore.kernel.vmlinux])
    return dwarf, btf


def output(prog: Program, words: Sequence[str]) -> tuple[int, str]:
    """Return the exit status and the output of a verb, less what names the source."""
    out = io.StringIO()
    with redirect_stdout(out):
        status = run(words[0], prog, words[1:])
    return status, as_with_dwarf(out.getvalue())


def as_with_dwarf(text: str) -> str:
    """Return a document without the one word that has to differ."""
    return text.replace('"symbols": "btf"', '"symbols": "dwarf"')


@shows(None, "BTF")
def test_vmcore(vmcore: Vmcore) -> None:
    """Each verb prints what it prints with debug info."""
    dwarf, btf = programs(vmcore)
    assert (load_types(dwarf), load_types(btf)) == ("dwarf", "btf")
    assert output(btf, VERBS[0])[1] == vmcore.vmallocinfo.decode()
    for words in VERBS:
        assert output(btf, words) == output(dwarf, words)
    compare_probes(dwarf, btf, INLINED.get(vmcore.kernel.name, ()))
    compare_variables(dwarf, btf)


def test_where_names_are(vmcore: Vmcore) -> None:
    """
    Where the kernel's symbol table is, is found without being told: what newer kernels
    note down, and what older ones' debug info says.
    """
    dwarf, btf = programs(vmcore)
    told = btf["VMCOREINFO"].string_()
    bare = Vmcoreinfo(re.sub(rb"SYMBOL\(kallsyms_\w+\)=\w+\n", b"", told))
    tables = searched_tables(btf, bare)
    assert tables is not None and len(tables) >= 5
    assert tables == {name: dwarf.symbol(name).address for name in tables}


def test_vmcore_of_a_crash(kdump_vmcore: Vmcore) -> None:
    """What makedumpfile left out of a vmcore is not what types and names need."""
    dwarf, btf = programs(kdump_vmcore)
    assert (load_types(dwarf), load_types(btf)) == ("dwarf", "btf")
    for words in VERBS:
        assert output(btf, words) == output(dwarf, words)


def test_vmcores_of_another_machine(lab: None) -> None:
    """
    Neither NUMA nor the place of the image in memory makes a difference, in any format
    of the oldest kernel, whose VMCOREINFO does not say where names are.
    """
    with TemporaryDirectory(dir="/var/tmp") as directory:
        paths = {name: Path(directory) / name for name in (*VMCORE_FORMATS, "crash")}
        append = "numa=off nokaslr"
        with Guest.boot(
            "5.10", append=append, crash_kernel=True, debug_info=False
        ) as guest:
            load_fixture_module(guest)
            for name in VMCORE_FORMATS:
                guest.dump(paths[name], name)
            guest.crash(paths["crash"])
        for path in paths.values():
            dwarf, btf = programs(Vmcore(path, guest.kernel, b"", b""))
            assert (load_types(dwarf), load_types(btf)) == ("dwarf", "btf")
            for words in VERBS:
                assert output(btf, words) == output(dwarf, words), (path, words)


@shows("QMP", "BTF")
def test_from_outside_over_qmp(module_guest: Guest) -> None:
    """The same of a running guest: as its own file has it, and as with debug info."""
    module_guest.write(KPTR_RESTRICT, b"1")
    listed = ask_over_qmp(module_guest, "--no-default-symbols", VERBS[0])
    assert listed.stdout.encode() == module_guest.read("/proc/vmallocinfo")
    module_guest.write(KPTR_RESTRICT, b"0")
    for words in VERBS[1:]:
        without, with_it = (
            ask_over_qmp(module_guest, how, words)
            for how in ("--no-default-symbols", f"-s{module_guest.vmlinux}")
        )
        assert without.stdout and without.returncode == with_it.returncode
        assert as_with_dwarf(without.stdout) == with_it.stdout, words


def ask_over_qmp(
    guest: Guest, how: str, words: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run a script on the guest from outside; its socket serves one at a time."""
    script = f"scripts/vmap_{words[0]}.py"
    return drgn("--qemu", guest.qmp_socket, how, script, *words[1:])


def compare_probes(dwarf: Program, btf: Program, inlined: Collection[str]) -> None:
    """What inlining hides is told by other signs, and they say the same, or nothing."""
    for name in FUNCTIONS:
        found = [Target(prog).functions.has(name) for prog in (dwarf, btf)]
        if name in inlined:
            assert found[0] and not Target(btf).functions.knows(name)
            continue
        assert found[0] == found[1], name
    for function, parameter in PARAMETERS:
        found = [
            Target(prog).functions.has_parameter(function, parameter)
            for prog in (dwarf, btf)
        ]
        assert found[0] == found[1], (function, parameter)


def compare_variables(dwarf: Program, btf: Program) -> None:
    """Each variable of the table has the address and type that DWARF says."""
    compared = 0
    for name in variables.NAMES:
        try:
            expected = dwarf.variable(name)
        except LookupError:
            continue
        if expected.absent_:
            # Where it never changes, a compiler keeps it nowhere.
            continue
        found = btf.variable(name)
        assert found.address_ == expected.address_, name
        if name in WHERE_ALONE:
            continue
        assert variable_outline(found) == variable_outline(expected), name
        compared += 1
    assert compared > 25


def variable_outline(variable: Object) -> object:
    """
    Return a variable's type; pg_data_t is struct pglist_data by another name, and whether
    a char by itself is signed is a matter of how the kernel was built.
    """
    type_, lengths = resolved(variable.type_), []
    while type_.kind in (TypeKind.ARRAY, TypeKind.POINTER):
        lengths.append(type_.length if type_.kind == TypeKind.ARRAY else None)
        type_ = resolved(type_.type)
    if type_.type_name() == "char":
        return lengths, "char"
    return lengths, outline(type_)


def test_types_of_modules(vmcores: dict[str, Vmcore], module_guest: Guest) -> None:
    """A vmcore has what /sys/kernel/btf shows of each module; its types are found."""
    _, btf = programs(vmcores["elf"])
    load_types(btf)
    if module_guest.kernel.name in WITHOUT_MODULES:
        with pytest.raises(SymbolsError):
            load_module_types(btf, "qemu_fw_cfg")
        return
    loaded = module_btf(btf)
    listed = module_guest.run("ls /sys/kernel/btf").stdout.decode().split()
    assert set(loaded) == {*listed} - {"vmlinux"}
    # Where the headers came without a vmlinux (6.1's), modules are built without BTF.
    with modules.build(module_guest.kernel).open("rb") as file:
        assert ("vmap_lab" in loaded) == ELFFile(file).has_section(".BTF")
    for name, found in loaded.items():
        data = btf.read(found.data, found.data_size)
        assert data == module_guest.read(f"/sys/kernel/btf/{name}")
        load_module_types(btf, name)
    entry = btf.type("struct fw_cfg_sysfs_entry")
    assert [one.name for one in entry.members or ()] == [
        *("kobj", "size", "select", "name", "list")
    ]
    kobject = entry.member("kobj").type
    assert contents(kobject) == contents(btf.type("struct kobject"))
    assert load_types(btf) == "btf"


def test_as_a_person_starts_it(vmcores: dict[str, Vmcore]) -> None:
    """
    Nothing of drgn's warning gets into the data, and the source is named; or one line
    says what is missing, as vmcores of 5.10 do not tell where names are.
    """
    vmcore = vmcores["elf"]
    command = [sys.executable, "-m", "drgn", "-c", str(vmcore.path)]
    command += ["--no-default-symbols", str(ROOT / "scripts/vmap_ls.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert json.loads(done.stdout)["kernel"]["symbols"] == "btf"


@shows("live", "BTF")
def test_live(module_guest: Guest) -> None:
    """Byte for byte what the kernel prints, and each verb as with debug info."""
    expect_listing_in(module_guest, f"{LIVE} --no-default-symbols")
    command = f"{LIVE} --main-symbols tests/lab/inside/compare_symbols.py"
    result = module_guest.run(command, timeout=600)
    assert result.status == 0, result.stderr.decode()
    assert json.loads(result.stdout) == {}
